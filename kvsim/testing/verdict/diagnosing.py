"""Which single mistake of the bank gives the output under test: each is run on the same feeds, and each feed votes."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kvsim.config import Config
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.bank.paths import Path
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.feeds.progress import track
from kvsim.testing.independent.decoder import Decoder, read_policy
from kvsim.testing.independent.products import Products
from kvsim.testing.subject.calls import Chunks, equal, max_abs
from kvsim.testing.verdict.failure import Candidate, Diagnosis
from kvsim.weights import Weights


@dataclass(frozen=True)
class Vote:
    """The result of one feed: the expected array and the one that came, of the same shape; `got` None: no array.
    `steps`: how many tokens were fed before each step and in it, of a decoder."""

    expected: Any
    got: Any
    allowed: float
    steps: tuple[tuple[int, int], ...] = ()

    @cached_property
    def fails(self) -> bool:
        return self.got is not None and not equal(self.got, self.expected, self.allowed)

    @cached_property
    def tells(self) -> bool:
        """Whether a finite number differs: where only NaN came, mistakes look the same."""
        if not self.fails:
            return False
        finite = np.isfinite(self.got)
        return bool((np.abs(self.got - self.expected)[finite] > self.allowed).any())

    @cached_property
    def wrong_row(self) -> int:
        """The first row that differs."""
        return int(np.argwhere(~(np.abs(self.got - self.expected) <= self.allowed))[0][0])

    @cached_property
    def wrong_step(self) -> int:
        """The number of the first step that differs, from 0; without steps 0."""
        return next((i for i, (start, count) in enumerate(self.steps) if self.wrong_row < start + count), 0)

    def may_be(self, path: Path | None) -> bool:
        """Whether a mistake that is made on this path alone may explain a feed that fails: not if the feed differs
        before there is a step on the path."""
        steps = self.steps[: self.wrong_step + 1]
        return path is None or not self.fails or not steps or any(path.holds(*step) for step in steps)


class Suspects:
    """Every reading of every mistake that can be made in a model under a policy, run on the same texts when asked."""

    def __init__(
        self, config: Config, weights: Weights, policy: str, texts: list[Chunks], cleared: Collection[int] = ()
    ) -> None:
        self.config, self.policy = as_window(config, policy)
        self.cleared = frozenset(cleared)  # the texts that are fed to a used decoder after it was emptied
        self.weights, self.texts = weights, texts
        self.positions = "alibi" if self.config.alibi else "learned" if self.config.learned_positions else "half"
        self.products = Products()
        self.model = (repr(self.config), fingerprint(weights))  # the key of its runs in KNOWN

    def readings(self) -> list[tuple[Mistake, list[type[Any]]]]:
        """Those that may change something in this model under this policy: a mistake in windows needs a window."""
        return [(m, m.variants) for m in BANK.values() if self.may_be(m)]

    def may_be(self, mistake: Mistake) -> bool:
        """Whether the mistake can be made here."""
        family = self.policy.partition(":")[0]
        windowed = any(kind.window is not None for kind in self.config.layers)
        return (
            not mistake.edits
            and mistake.family in ("dynamic", family)
            and mistake.rope in ("half", self.positions)
            and (mistake.window is None or windowed)
        )

    def run(self, mistake: Mistake, cls: type[Any], wanted: list[int]) -> dict[int, Any]:
        """Logits [T, V] of the wanted texts; those that it cannot read are missing. Runs are reused from KNOWN."""
        lossless = self.policy.partition(":")[0] in ("dynamic", "static", "paged")
        policy = "dynamic" if lossless and mistake.family == "dynamic" else self.policy
        if cls.fresh is Decoder.fresh and cls.cleared is Decoder.cleared:
            outputs = {i: self._known(cls, policy, [self.texts[i]])[0] for i in wanted}
        else:  # what it was fed before matters
            outputs = dict(enumerate(self._known(cls, policy, self.texts, self.cleared)))
        return {i: outputs[i] for i in wanted if outputs[i] is not None}

    def _known(
        self, cls: type[Any], policy: str, texts: list[Chunks], cleared: frozenset[int] = frozenset()
    ) -> list[Any]:
        key = (cls, self.model, policy, cleared, tuple(tuple(map(tuple, text)) for text in texts))
        return KNOWN.get(
            key, lambda: run_decoder(cls, self.config, self.weights, policy, texts, cleared, self.products)
        )


def as_window(config: Config, policy: str) -> tuple[Config, str]:
    """The model and the cache policy to run: under `window:W`, the model with that window and the full cache."""
    name, options = read_policy(policy)
    if name != "window":
        return config, policy
    kinds = [replace(k, window=options if k.window is None else min(k.window, options)) for k in config.layers]
    return replace(config, layers=tuple(kinds)), "dynamic"


def diagnose(votes: list[Vote], suspects: Any) -> Diagnosis:
    """The mistakes that explain every feed, those that passed included: one feed that a mistake does not explain shows
    that it is another one. If none does, `nearest` is the one that explains most of the feeds: all that passed, and two
    thirds of those that fail.

    Feeds without any finite number are left out. If no feed has a finite number that differs, nothing is named: there
    are many ways to NaN.
    """
    given = [i for i, v in enumerate(votes) if v.got is not None]
    if not any(votes[i].tells for i in given):
        return Diagnosis((), sum(votes[i].fails for i in given), len(given), any(votes[i].fails for i in given))
    compared = [i for i in given if np.isfinite(votes[i].got).any()]
    compared.sort(key=lambda i: votes[i].got.size)
    failing = [i for i in compared if votes[i].fails]
    readings = [
        (mistake, number, cls)
        for mistake, classes in suspects.readings()
        for number, cls in enumerate(classes, start=1)
        if all(votes[i].may_be(getattr(cls, "path", None)) for i in failing)
    ]
    for most in sorted({0, len(failing) // 3}):
        found: dict[str, Candidate] = {}
        for mistake, number, cls in track(readings, "mistakes"):
            missed = _missed(votes, compared, suspects, (mistake, cls), most)
            if missed is None:
                continue
            right = [i for i in failing if i not in missed]
            one = Candidate(mistake, len(right), len(compared) - len(missed), sum(votes[i].got.size for i in right),
                            number, getattr(cls, "path", None))  # fmt: skip
            if mistake.id not in found or one.all > found[mistake.id].all:
                found[mistake.id] = one
        if most == 0 and found:
            return Diagnosis(tuple(found.values()), len(failing), len(compared))
    nearest = max(found.values(), key=lambda c: (c.all, c.failing), default=None)
    return Diagnosis((), len(failing), len(compared), nearest=nearest)


def _missed(
    votes: list[Vote], compared: list[int], suspects: Any, suspect: tuple[Mistake, type[Any]], most: int
) -> set[int] | None:  # fmt: skip
    """The failing feeds that the suspect does not explain; None if they are more than `most`, or if it does not explain
    one that passes. Feeds are tried in order, and none after the one that decides."""
    missed: set[int] = set()
    for i in compared:
        output = suspects.run(*suspect, [i]).get(i)
        if output is None or not _explains(votes[i], output):
            missed.add(i)
            if not votes[i].fails or len(missed) > most:
                return None
    return missed


def _explains(vote: Vote, output: Any) -> bool:
    """Is the output the one under test, to within twice the allowed difference, or more where its numbers are larger
    than the right ones, whose rounding was measured? If numbers of the feed differ, it must
    also explain more than half of their squared difference from the right answer: in a coarse format, a mistake with
    hardly any effect would otherwise be within the allowed difference.
    """
    if not equal(vote.got, output, 2 * vote.allowed * _growth(output, vote.expected)):
        return False
    finite = np.isfinite(output)
    left, all = (np.square(vote.got - other)[finite].sum() for other in (output, vote.expected))
    return not vote.tells or bool(2 * left < all)


def _growth(output: Any, expected: Any) -> float:
    """How many times larger the largest number of the output is than the right one; at least 1."""
    right, most = max_abs(expected), max_abs(output)  # NaN: no finite number
    return most / right if 0 < right < most else 1.0


def run_decoder(
    cls: type[Decoder], config: Config, weights: Weights, policy: str, texts: list[Chunks],
    cleared: Collection[int] = (), products: Products | None = None,
) -> list[Any]:  # fmt: skip
    """Logits [T, V] of every text, fed to one decoder class one after another; None where it raises. `cleared`: the
    texts before which the decoder is emptied, instead of a new one made. `products`: those of these weights that are
    known."""
    decoder: Decoder | None = None
    outputs: list[Any] = []
    for number, text in enumerate(texts):
        if decoder is None:
            decoder = cls(config, weights, policy)
        else:
            decoder = decoder.cleared() if number in cleared else decoder.fresh()
        decoder.products = products
        try:
            with np.errstate(all="ignore"):
                outputs.append(np.concatenate([decoder.forward(chunk) for chunk in text]))
        except (ValueError, IndexError):
            decoder = None
            outputs.append(None)
    return outputs
