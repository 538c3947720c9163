"""Decoders that can be cropped, forked and put in another order, right and wrong, in two styles: heads first and
counted by `seen` (`numpy_decoders`), and tokens first with stored positions (`reports`). A comment on a wrong one
states the expected diagnosis: `# expect: id`."""

import copy

import numpy as np

from tests.testing.strangers.numpy_decoders import EvictsOutsideWindow, NumpyDecoder, Preallocated
from tests.testing.strangers.reports import Engine


class Heads(NumpyDecoder):
    """Correct."""

    def crop(self, length):
        self.caches = [tuple(x[:, :length] for x in cache) for cache in self.caches]
        self.seen = length

    def fork(self):
        other = copy.copy(self)
        other.caches = list(self.caches)
        return other

    @classmethod
    def reorder(cls, states, order):
        return [states[i].fork() for i in order]


class Buffers(Preallocated):
    """Correct: rows past `seen` are written over."""

    def crop(self, length):
        self.seen = length

    def fork(self):
        return copy.deepcopy(self)

    @classmethod
    def reorder(cls, states, order):
        """In place, by a copy of all buffers first."""
        old = [copy.deepcopy((state.caches, state.seen)) for state in states]
        for state, i in zip(states, order, strict=True):
            state.caches, state.seen = copy.deepcopy(old[i])


class Replays(NumpyDecoder):
    """Correct: feeds what is left once more."""

    def __init__(self, weights):
        super().__init__(weights)
        self.ids = []

    def forward(self, ids):
        self.ids = [*self.ids, *ids]
        return super().forward(ids)

    def crop(self, length):
        other = type(self)(self.w)
        if length:
            other.forward(self.ids[:length])
        return other

    def fork(self):
        return self.crop(len(self.ids))

    @classmethod
    def reorder(cls, states, order):
        return tuple(states[i].fork() for i in order)


class Tokens(Engine):
    """Correct."""

    def crop(self, length):
        self.rows = [tuple(part[keys_at[2] < length] for part in keys_at) for keys_at in self.rows]
        self.fed = length

    def fork(self):
        other = copy.copy(self)
        other.rows = self.rows[:]
        return other

    @classmethod
    def reorder(cls, states, order):
        return [states[i].fork() for i in order]


class Pages(Tokens):
    """Correct: rows are a list that is appended to, copied when it is forked."""

    def __init__(self, weights):
        super().__init__(weights)
        self.lists = [[] for _ in self.rows]

    def store(self, layer, k, v):
        self.lists[layer] += zip(k, v, range(self.fed, self.fed + len(k)), strict=True)
        return tuple(np.array(part) for part in zip(*self.lists[layer], strict=True))

    def crop(self, length):
        for rows in self.lists:
            del rows[length:]
        self.fed = length

    def fork(self):
        other = copy.copy(self)
        other.lists = [list(rows) for rows in self.lists]
        return other


RIGHT = [Heads, Buffers, Replays, Tokens, Pages]


# Cropped


class CropsAfter(Heads):  # expect: crop_keeps_one_too_many
    def crop(self, length):
        super().crop(length + 1)
        self.seen = length


class CropsAfterPosition(Tokens):  # expect: crop_keeps_one_too_many
    def crop(self, length):
        super().crop(length + 1)
        self.fed = length


class NothingMeansAll(Heads):  # expect: crop_zero_keeps_all
    def crop(self, length=None):
        super().crop(length or self.seen)


class NothingIsFalse(Pages):  # expect: crop_zero_keeps_all
    """The rows stay, the count does not."""

    def crop(self, length):
        if length:
            for rows in self.lists:
                del rows[length:]
        self.fed = length


class CountsBack(Heads):  # expect: crop_keeps_rows
    def crop(self, length):
        self.seen = length


class CountsBackOnly(Tokens):  # expect: crop_keeps_rows
    def crop(self, length):
        self.fed = length


class CountGoesOn(Heads):  # expect: crop_keeps_positions
    def crop(self, length):
        self.caches = [tuple(x[:, :length] for x in cache) for cache in self.caches]


class PositionsGoOn(Tokens):  # expect: crop_keeps_positions
    def crop(self, length):
        fed = self.fed
        super().crop(length)
        self.fed = fed


class WindowCropped(EvictsOutsideWindow, Heads):  # expect: ring_rolled_back
    """Only W - 1 rows are left, and fewer after a crop."""

    def crop(self, length):
        lost = self.seen - length
        self.caches = [tuple(x[:, : max(x.shape[1] - lost, 0)] for x in cache) for cache in self.caches]
        self.seen = length


class RingCropped(Tokens):  # expect: ring_rolled_back
    """Position p in slot p mod W; the slots of what was cropped are marked as empty."""

    def store(self, layer, k, v):
        read = super().store(layer, k, v)
        self.rows[layer] = tuple(part[-self.c.window :] for part in read)
        return read


# Forked


class ForksToItself(Heads):  # expect: fork_not_copied
    def fork(self):
        return self


class ForksByCopy(Heads):  # expect: fork_not_copied
    """The list of caches is shared."""

    def fork(self):
        return copy.copy(self)


class ForksToItselfToo(Tokens):  # expect: fork_not_copied
    def fork(self):
        return self


class ListsInCommon(Pages):  # expect: fork_not_copied
    def fork(self):
        return copy.copy(self)


class BuffersInCommon(Buffers):  # expect: fork_shares_tail
    def fork(self):
        other = copy.copy(self)
        other.caches = [list(buffers) for buffers in self.caches]
        return other


class SlotsInCommon(Tokens):  # expect: fork_shares_tail
    """One array of 64 slots, written in place."""

    def __init__(self, weights):
        super().__init__(weights)
        shape = (self.c.layers, 2, 64, self.c.kv_heads, self.c.d_head)
        self.slots = np.zeros(shape)

    def store(self, layer, k, v):
        stop = self.fed + len(k)
        self.slots[layer, :, self.fed : stop] = k, v
        return (*self.slots[layer, :, :stop], np.arange(stop))

    def crop(self, length):
        self.fed = length


# Put in another order


class StaysInPlace(Heads):  # expect: reorder_not_done
    @classmethod
    def reorder(cls, states, order):
        return list(states)


class OrderIgnored(Tokens):  # expect: reorder_not_done
    @classmethod
    def reorder(cls, states, order):
        return [state.fork() for state in states]


class Scatters(Heads):  # expect: reorder_inverted
    @classmethod
    def reorder(cls, states, order):
        old = [state.fork() for state in states]
        for state, place in zip(old, order, strict=True):
            states[place] = state


class ScattersRows(Tokens):  # expect: reorder_inverted
    @classmethod
    def reorder(cls, states, order):
        old = [(state.rows[:], state.fed) for state in states]
        for i, place in enumerate(order):
            states[place].rows, states[place].fed = old[i][0][:], old[i][1]


class SameObjects(Heads):  # expect: reorder_not_copied
    @classmethod
    def reorder(cls, states, order):
        return [states[i] for i in order]


class ReadsWhatItWrote(Tokens):  # expect: reorder_not_copied
    @classmethod
    def reorder(cls, states, order):
        for place, i in enumerate(order):
            states[place].rows, states[place].fed = states[i].rows[:], states[i].fed


class SharesLists(Pages):  # expect: reorder_not_copied
    @classmethod
    def reorder(cls, states, order):
        return [copy.copy(states[i]) for i in order]


class SharesSlots(SlotsInCommon):  # expect: reorder_not_copied
    def fork(self):
        return copy.deepcopy(self)

    @classmethod
    def reorder(cls, states, order):
        return [copy.copy(states[i]) for i in order]


class KeysMoved(Buffers):  # expect: reorder_keys_only
    @classmethod
    def reorder(cls, states, order):
        old = [(state.seen, [buffers[0].copy() for buffers in state.caches]) for state in states]
        for state, i in zip(states, order, strict=True):
            state.seen = old[i][0]
            for buffers, keys in zip(state.caches, old[i][1], strict=True):
                buffers[0] = keys.copy()


class ValuesMoved(SlotsInCommon):  # expect: reorder_keys_only
    def fork(self):
        return copy.deepcopy(self)

    @classmethod
    def reorder(cls, states, order):
        old = copy.deepcopy(states)
        for state, i in zip(states, order, strict=True):
            state.fed, state.slots[:, 1] = old[i].fed, old[i].slots[:, 1]


class CountStays(Heads):  # expect: reorder_keeps_positions
    @classmethod
    def reorder(cls, states, order):
        old = [list(state.caches) for state in states]
        for state, i in zip(states, order, strict=True):
            state.caches = list(old[i])


class FedStays(Tokens):  # expect: reorder_keeps_positions
    @classmethod
    def reorder(cls, states, order):
        old = [state.rows for state in states]
        for state, i in zip(states, order, strict=True):
            state.rows = old[i][:]
