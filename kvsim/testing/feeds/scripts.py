"""Scripts of steps and edits: states are fed, cropped, forked and put in another order, and their logits recorded."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.feeds.feeding import Make, Step
from kvsim.testing.feeds.references import Reference
from kvsim.testing.subject.calls import UnreadableError, call, to_host

FEED, CROP, FORK, MAKE, REORDER = "feed", "crop", "fork", "make", "reorder"
BEAMS = 3  # states, or sequences of a batch, that are put in another order
LONGEST = 64  # tokens of the longest text
# What is done, to which state, and a number of tokens or the order. A fork, and make, adds a state; the first is there.
Act = tuple[str, int, Any]
Script = Sequence[Act]
CROPS: list[Script] = [
    [(FEED, 0, 3), (CROP, 0, 2), (FEED, 0, 2), (FEED, 0, 1)],
    [(FEED, 0, 3), (CROP, 0, 0), (FEED, 0, 2)],
    [(FEED, 0, 2), (FEED, 0, 1), (FEED, 0, 1), (CROP, 0, 2), (FEED, 0, 1), (FEED, 0, 2)],
]
FORKS: list[Script] = [
    [(FEED, 0, 3), (FORK, 0, 0), (FEED, 1, 2), (FEED, 0, 2), (FEED, 1, 1), (FEED, 0, 1)],
    [(FEED, 0, 2), (FORK, 0, 0), (FEED, 0, 1), (FEED, 1, 1), (FEED, 0, 1), (FEED, 1, 1)],
]
REORDERS: list[Script] = [
    [(MAKE, 0, 0), (MAKE, 0, 0), (FEED, 0, 2), (FEED, 1, 2), (FEED, 2, 2), (REORDER, 0, (1, 2, 0)), (FEED, 0, 1),
     (FEED, 1, 1), (FEED, 2, 2)],
    [(MAKE, 0, 0), (MAKE, 0, 0), (FEED, 0, 1), (FEED, 1, 2), (FEED, 2, 3), (REORDER, 0, (1, 1, 0)), (FEED, 0, 1),
     (FEED, 1, 1), (FEED, 2, 2), (FEED, 0, 1)],
]  # fmt: skip
BATCHED_REORDERS: list[Script] = [
    [(FEED, 0, 2), (REORDER, 0, (1, 2, 0)), (FEED, 0, 1), (FEED, 0, 2)],
    [(FEED, 0, 1), (FEED, 0, 1), (REORDER, 0, (1, 1, 0)), (FEED, 0, 1), (REORDER, 0, (2, 0, 1)), (FEED, 0, 1)],
]


class Edits(NamedTuple):
    """The code under test, or a decoder of the bank. `batched`: a state holds BEAMS sequences."""

    make: Make
    step: Step
    crop: Callable[[Any, int], Any] | None = None
    fork: Callable[[Any], Any] | None = None
    reorder: Callable[[Any, list[int]], Any] | None = None
    batched: bool = False


class Played(NamedTuple):
    """The result of a script with these ids: logits [T, V] of all fed tokens, the expected ones, the dtype, the number
    of the act that gave each row of logits, and the texts that were fed."""

    script: Script
    ids: list[int]
    got: Any
    expected: Any
    dtype: str
    acts: list[int]
    texts: list[list[int]]


def choose_scripts(edits: Edits, window: int | None) -> list[Script]:
    """The scripts for the edits that there are. A window is rolled back by three tokens after it has been full."""
    scripts = [*CROPS] if edits.crop else []
    if edits.crop and window is not None:
        n = window + 4
        scripts.append([(FEED, 0, n - 2), (FEED, 0, 1), (FEED, 0, 1), (CROP, 0, n - 3), (FEED, 0, 1), (FEED, 0, 2)])
    if edits.fork:
        scripts += FORKS
    if edits.reorder:
        scripts += BATCHED_REORDERS if edits.batched else REORDERS
    return scripts


def tokens_of(script: Script) -> int:
    """The number of tokens of the longest text that a state holds."""
    held, longest = [0] * (1 + len(script)), 0  # of each state, more than there are
    made = 0
    for act, which, detail in script:
        if act == FEED:
            held[which] += detail
        elif act == CROP:
            held[which] = detail
        elif act == REORDER:
            held = [held[i] for i in detail] + held[len(detail) :]
        else:
            made += 1
            held[made] = held[which] if act == FORK else 0
        longest = max(longest, *held)
    return longest


def count_ids(edits: Edits, script: Script) -> int:
    """The number of ids that a script takes."""
    fed: int = sum(count for act, _, count in script if act == FEED)
    return fed * (BEAMS if edits.batched else 1)


def play(edits: Edits, script: Script, ids: list[int], reference: Reference) -> Played:
    """Run a script on new states; the ids are fed in order. UnreadableError: a call has no result to compare."""
    return _Player(edits, ids, reference).play(script)


class _Player:
    """States, and for each the sequences that it holds: one, or BEAMS."""

    def __init__(self, edits: Edits, ids: list[int], reference: Reference) -> None:
        self.edits, self.ids, self.reference = edits, ids, reference
        self.left = iter(ids)
        self.states: list[Any] = []
        self.fed: list[list[list[int]]] = []
        self.got: list[Any] = []
        self.expected: list[Any] = []
        self.dtype = "float64"

    def play(self, script: Script) -> Played:
        acts: dict[str, Callable[[int, Any], None]] = {
            FEED: self.feed, CROP: self.crop, FORK: self.fork, MAKE: self.make, REORDER: self.reorder,
        }  # fmt: skip
        self.make(0, 0)
        numbers: list[int] = []
        for number, (act, which, detail) in enumerate(script):
            acts[act](which, detail)
            numbers += [number] * (sum(map(len, self.got)) - len(numbers))
        texts = [text for state in self.fed for text in state if text]
        got, expected = np.concatenate(self.got), np.concatenate(self.expected)
        return Played(script, self.ids, got, expected, self.dtype, numbers, texts)

    def make(self, which: int, detail: Any) -> None:
        self.states.append(call(self.edits.make))
        self.fed.append([[] for _ in range(BEAMS if self.edits.batched else 1)])

    def crop(self, which: int, length: int) -> None:
        changed = call(self.edits.crop, self.states[which], length)  # type: ignore[arg-type]
        self.states[which] = self.states[which] if changed is None else changed
        self.fed[which] = [text[:length] for text in self.fed[which]]

    def fork(self, which: int, detail: Any) -> None:
        self.states.append(call(self.edits.fork, self.states[which]))  # type: ignore[arg-type]
        self.fed.append(list(self.fed[which]))

    def reorder(self, which: int, order: Sequence[int]) -> None:
        given = self.states[which] if self.edits.batched else list(self.states)
        changed = call(self.edits.reorder, given, list(order))  # type: ignore[arg-type]
        changed = given if changed is None else changed
        if self.edits.batched:
            self.states[which], self.fed[which] = changed, [self.fed[which][i] for i in order]
            return
        if not isinstance(changed, list | tuple) or len(changed) != len(order):
            raise UnreadableError("reorder gave {got}, expected a list of {count} states", got=type(changed).__name__,
                                  count=len(order))  # fmt: skip
        self.states, self.fed = list(changed), [list(self.fed[i]) for i in order]

    def feed(self, which: int, count: int) -> None:
        rows = [[next(self.left) for _ in range(count)] for _ in self.fed[which]]
        given: list[Any] = [list(row) for row in rows] if self.edits.batched else list(rows[0])
        logits, self.dtype = to_host(call(self.edits.step, self.states[which], given))
        if given != (rows if self.edits.batched else rows[0]):
            raise UnreadableError("step changed the list of ids that it was given: it now holds {ids}", ids=given)
        shape = (count, self.reference.config.vocab_size)
        if self.edits.batched and logits.shape != (BEAMS, *shape):
            raise UnreadableError("step gave an array of shape {got}, expected [B, T, V] = {expected}",
                                  got=list(logits.shape), expected=[BEAMS, *shape])  # fmt: skip
        if not self.edits.batched and logits.shape != shape:
            raise UnreadableError("step gave an array of shape {got}, expected [T, V] = {expected}",
                                  got=list(logits.shape), expected=list(shape))  # fmt: skip
        self.got.append(logits.reshape(-1, shape[1]))
        for i, row in enumerate(rows):
            before = self.fed[which][i]
            self.expected.append(self.reference.run([*([before] if before else []), row])[-count:])
            self.fed[which][i] = before + row
