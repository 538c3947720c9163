"""Random operations on several sequences of one pool, each modelled by a list of ids: every row and logit equals that
of a new cache. Unreferenced rows are overwritten by NaN, which shows that they are never read."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvsim.caches.paged.blocks import prefix_key
from kvsim.errors import UsageError
from tests.caches.paged.runs import LATENT, WINDOWS, close, rows_of, scatter
from tests.models import make_model

MODELS = [make_model(replace(config, vocab_size=5)) for config in (WINDOWS, LATENT)]
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=5)  # few: prefixes meet


@lru_cache(maxsize=4096)
def fresh(model, ids):
    """Logits of `ids` and the rows of every layer under another policy, fed in one step."""
    cache = model.new_cache("static:128")
    logits = model(ids, cache)
    return logits, [(layer.keys, layer.values) for layer in cache.layers]


def keys_of(text, size):
    """The keys of the prefixes that the full blocks of a text end."""
    keys = [b""]
    for stop in range(size, len(text) + 1, size):
        keys.append(prefix_key(keys[-1], text[stop - size : stop]))
    return keys[1:]


class Sequences(RuleBasedStateMachine):
    @initialize(
        which=st.sampled_from(MODELS), size=st.integers(1, 3), blocks=st.integers(3, 12), seed=st.integers(0, 3)
    )
    def start(self, which, size, blocks, seed):
        self.model, self.size = which, size
        self.pool = which.new_pool(f"paged:{size}", blocks=blocks)
        if seed:
            scatter(self.pool, seed)
        self.caches = [self.pool.new_cache()]
        self.texts = [()]

    def draw(self, data):
        return data.draw(st.integers(0, len(self.caches) - 1))

    def needed(self, steps):
        """Number of blocks that the steps allocate, simulated one after the other."""
        held = {i: [*cache.table.blocks] for i, cache in enumerate(self.caches)}
        count = 0
        for i, new in steps:
            mine, seen = held[i], self.caches[i].seen
            others = {block for j, blocks in held.items() if j != i for block in blocks}
            for at in range(seen // self.size, (seen + len(new) - 1) // self.size + 1):
                if at >= len(mine):
                    mine.append(f"new {count}")
                elif mine[at] in others:
                    mine[at] = f"new {count}"
                else:
                    continue
                count += 1
        return count

    def feed(self, steps):
        free = self.pool.blocks - len({block for cache in self.caches for block in cache.table.blocks})
        pairs = [(new, self.caches[i]) for i, new in steps]
        if self.needed(steps) > free:
            before = [[*cache.table.blocks] for cache in self.caches]
            with pytest.raises(UsageError, match="more blocks of"):
                self.model.batch(pairs)
            assert [cache.table.blocks for cache in self.caches] == before
            return
        for (i, new), out in zip(steps, self.model.batch(pairs), strict=True):
            self.texts[i] += tuple(new)
            assert close(out, fresh(self.model, self.texts[i])[0][-len(new) :])

    @rule(data=st.data(), new=tokens)
    def feed_one(self, data, new):
        self.feed([(self.draw(data), new)])

    @precondition(lambda self: len(self.caches) > 1)
    @rule(data=st.data(), new=st.lists(tokens, min_size=2, max_size=3))
    def feed_some(self, data, new):
        order = data.draw(st.permutations(range(len(self.caches))))
        self.feed(list(zip(order, new, strict=False)))

    @precondition(lambda self: len(self.caches) > 1)
    @rule(data=st.data(), new=tokens)
    def feed_one_text_twice(self, data, new):
        """In one batch, which computes it twice."""
        two = data.draw(st.permutations(range(len(self.caches))))[:2]
        for i in two:
            self.caches[i].clear()
            self.texts[i] = ()
        self.feed([(i, new) for i in two])

    @rule(data=st.data(), new=tokens)
    def interrupt(self, data, new):
        """The second layer fails, if the first one was reached."""
        cache = self.caches[self.draw(data)]

        def fail(*_):
            raise KeyboardInterrupt

        cache.layers[1].update = fail
        try:
            with pytest.raises((KeyboardInterrupt, UsageError)):
                self.model(new, cache)
        finally:
            del cache.layers[1].update

    @precondition(lambda self: len(self.caches) < 4)
    @rule(data=st.data())
    def fork(self, data):
        i, held = self.draw(data), self.pool.held
        self.caches.append(self.caches[i].fork())
        self.texts.append(self.texts[i])
        assert self.pool.held == held

    @rule(data=st.data())
    def crop(self, data):
        i = self.draw(data)
        length = data.draw(st.integers(0, len(self.texts[i])))
        self.caches[i].crop(length)
        self.texts[i] = self.texts[i][:length]
        assert len(self.caches[i].table.blocks) == -(-length // self.size)

    @rule(data=st.data())
    def clear(self, data):
        i = self.draw(data)
        self.caches[i].clear()
        self.texts[i] = ()

    @precondition(lambda self: len(self.caches) < 4)
    @rule()
    def begin(self):
        self.caches.append(self.pool.new_cache())
        self.texts.append(())

    @precondition(lambda self: len(self.caches) > 1)
    @rule(data=st.data())
    def drop(self, data):
        i = self.draw(data)
        del self.caches[i], self.texts[i]

    @precondition(lambda self: any(self.texts))
    @rule(data=st.data(), new=tokens)
    def reuse(self, data, new):
        i, text = self.draw(data), data.draw(st.sampled_from(sorted(filter(None, self.texts))))
        self.caches[i].clear()
        ids = (*text[: data.draw(st.integers(0, len(text)))], *new)
        found = self.pool.reuse(self.caches[i], ids)
        assert found % self.size == 0
        assert found < len(ids)
        self.texts[i] = ids[:found]

    @invariant()
    def rows_are_those_of_a_fresh_run(self):
        for cache, text in zip(self.caches, self.texts, strict=True):
            assert (cache.seen, tuple(cache.ids)) == (len(text), text)
            if text:
                for i, wanted in enumerate(fresh(self.model, text)[1]):
                    for got, rows in zip(rows_of(cache, i), wanted, strict=True):
                        assert close(got, rows)

    @invariant()
    def blocks_add_up(self):
        tables = [cache.table.blocks for cache in self.caches]
        held = {block for blocks in tables for block in blocks}
        assert self.pool.held == len(held)
        assert self.pool.free == self.pool.blocks - len(held)
        for block in held:
            assert self.pool.numbers.references(block) == sum(blocks.count(block) for blocks in tables)

    @invariant()
    def every_prefix_that_is_held_is_found(self):
        """Whichever block was cached first, and whatever has become of it since."""
        numbers = self.pool.numbers
        for text in self.texts:
            assert all(numbers.find(key) is not None for key in keys_of(text, self.size))
        free = [key for block, key in enumerate(numbers._keys) if key and not numbers.references(block)]
        assert self.pool.kept == len(free)
        assert all(numbers.find(key) is not None for key in free)

    @invariant()
    def unused_rows_become_nan(self):
        """Overwrites all rows by NaN, except those that a sequence has seen and those of cached blocks."""
        numbers, size = self.pool.numbers, self.size
        cached = [block for block, key in enumerate(numbers._keys) if key]
        needed = {block * size + j for block in cached for j in range(size)}
        for cache in self.caches:
            needed |= {cache.table.blocks[s // size] * size + s % size for s in range(cache.seen)}
        rest = sorted({*range(self.pool.blocks * size)} - needed)
        for stored in self.pool.layers:
            stored.keys[:, rest, :] = stored.values[:, rest, :] = np.nan


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
