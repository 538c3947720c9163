"""A check that failed, as records: what the text, the JSON object and a page are made from.

The records hold numbers, arrays and message templates, and no text in any language: `text.py` renders them in a
language, `facts.py` as plain data. This file imports nothing that computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsim.schemas.display import mimebundle

if TYPE_CHECKING:
    from kvsim.testing.bank import Mistake
    from kvsim.testing.bank.paths import Path
    from kvsim.testing.feeds.feeding import Smallest
    from kvsim.testing.feeds.references import Allowed
    from kvsim.testing.subject.calls import Problem


@dataclass(frozen=True)
class Candidate:
    """A mistake of the bank, and on how many feeds it gives the output that was compared."""

    mistake: "Mistake"
    failing: int  # of the feeds that failed
    all: int  # of all feeds that were compared
    values: int  # numbers in those failing feeds
    reading: int  # which of the mistake's readings, from 1
    path: "Path | None" = None  # the steps in which alone it is made

    def __repr__(self) -> str:
        return f"Candidate({self.mistake.id}, failing={self.failing}, all={self.all}, reading={self.reading})"


@dataclass(frozen=True)
class Diagnosis:
    """The mistakes that explain every feed; no candidate: the mistake is unknown."""

    candidates: tuple[Candidate, ...]
    n_failing: int
    n_all: int
    blank: bool = False  # no finite number differs, so that there is nothing to compare
    nearest: Candidate | None = None  # if nothing explains every feed: the one that explains most

    _repr_mimebundle_ = mimebundle

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(c.mistake.id for c in self.candidates)

    def __repr__(self) -> str:
        ids = " or ".join(self.ids[:3]) + (" ..." if len(self.ids) > 3 else "")
        return f"Diagnosis({ids or 'unknown'}, {self.n_failing} of {self.n_all} feeds fail)"


class Difference(NamedTuple):
    """Of the numbers in the failing feeds, how many differ, and the largest finite |difference|."""

    wrong: int
    total: int
    largest: float


class Blank(NamedTuple):
    """A number that is not finite where the reference is. `sizes`: the feed's chunks, or (queries, keys)."""

    value: float
    at: tuple[int, ...]
    sizes: tuple[int, ...]


class LogitPlace(NamedTuple):
    """The first number of a decoder that differs. `step`: from 1; `row`: in that step's chunk, from 0."""

    feed: tuple[int, ...]
    step: int
    row: int
    token: int
    position: int
    channel: int
    got: float
    expected: float


class OutputPlace(NamedTuple):
    """The first number of an attention output that differs."""

    head: int
    query: int
    token: str
    position: int
    channel: int
    got: float
    expected: float


class Buffer(NamedTuple):
    """The buffers of a call: the lengths of their sequences, their rows, and the first sequence that differs."""

    sequence: int
    lengths: tuple[int, ...]
    rows: int
    nan: bool  # do the rows past the lengths hold NaN?


class LayerPlace(NamedTuple):
    """The first layer that differs, of those that are visible: 0 to `last`. `place` is None if none of them does."""

    last: int
    layer: int | None = None
    place: LogitPlace | None = None
    allowed: "Allowed | None" = None


class Dependence(NamedTuple):
    """[T, T] booleans: does row i of the logits change when token j does? In the code under test, in the reference."""

    feed: tuple[int, ...]
    got_TT: Any
    expected_TT: Any


class Weights(NamedTuple):
    """The attention matrix of one head as booleans [T, S], which key/value head each query head reads (None: no single
    one), and whether the rows of the matrix sum to 1. `buffer`: the (sequence, length,
    keys) if k and v are buffers; a column after the keys then stands for all further rows."""

    head: int
    got_TS: Any
    expected_TS: Any
    kv_heads: list[int | None]
    expected_kv_heads: list[int]
    sums_to_1: bool
    buffer: tuple[int, int, int] | None = None


class SeenRows(NamedTuple):
    """In the first steps of a feed, the query at a position must have seen the rows at `got`; it should have seen those
    at `expected`."""

    feed: tuple[int, ...]
    position: int
    got: list[int]
    expected: list[int]


class Known(NamedTuple):
    """`path`: on which every feed that fails is first wrong, while some other step is right; `position`: before which
    every row of every feed is right; `by_token`, `at_once`: texts fed so are right; `rounding`: the format whose
    rounding explains the difference; `layer`: which alone is wrong; `seen`: which rows a query must have seen. None or
    False: nothing of the kind."""

    path: "Path | None" = None
    position: int = 0
    by_token: bool = False
    at_once: bool = False
    rounding: str | None = None
    layer: int | None = None
    seen: SeenRows | None = None


class Command(NamedTuple):
    """Options of `kvsim explain`. `same`: they make the same weights and texts."""

    options: dict[str, Any]
    same: bool = True


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Any failed check: sentences, and `numbers` for the JSON object.

    `headlines` say what is wrong or, if not `compared`, why there was nothing to compare; `notes` are printed below.
    """

    headlines: tuple["Problem", ...] = ()
    notes: tuple["Problem", ...] = ()
    compared: bool = True
    unwritten: bool = False  # every call raised NotImplementedError
    unknown: bool = False  # a count is not known, and the notes say why
    named: tuple["Mistake", ...] | None = None  # the mistakes that explain it; empty: unknown; None: none was tried
    numbers: Mapping[str, Any] = field(default_factory=dict)

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        first = self.headlines[0].template if self.headlines else ""
        return f"{type(self).__name__}({first[:100]!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Mismatch(Failure):
    """Numbers that differ from the reference. `problems`: runs that gave nothing to compare, beside those that did."""

    problems: tuple["Problem", ...] = ()
    failing: tuple[tuple[int, ...], ...]  # feeds, or (queries, keys), in the order in which they ran
    difference: Difference
    allowed: "Allowed"
    blank: Blank | None = None
    diagnosis: Diagnosis | None = None  # None: the independent decoder does not cover the model
    smallest: "Smallest"
    command: Command

    def __repr__(self) -> str:
        wrong, total, largest = self.difference
        return f"{type(self).__name__}({wrong} of {total} values differ, max |diff| {largest:.3g}, {self.diagnosis!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class DecoderFailure(Mismatch):
    """A decoder whose logits differ."""

    policy: str
    n_feeds: int
    first: LogitPlace
    layer: "LayerPlace | Problem | None" = None  # Problem: the layers cannot be read; None: no layers are visible
    unsteady: float | None = None  # the largest |difference| between two runs of the same text, if that is too large
    after_others: bool = False  # the same feed passed when it came first
    after_clear: str = ""  # only texts fail that are fed to a used state after this function emptied it
    known: Known | None = None  # if the mistake is unknown
    dependence: Dependence | None = None  # None: as in the reference, or not known


@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionFailure(Mismatch):
    """An attention function whose output differs."""

    first: OutputPlace
    weights: Weights | None = None  # None: they could not be read out
    linear: bool = True  # is the output linear in V?
    buffer: Buffer | None = None
    only_nan: bool = False  # does it fail only where rows of the buffer that were never written hold NaN?
