"""Which single mistake of the bank gives the output under test: each is run on the same feeds, and each feed votes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.config import Config
from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.independent.decoder import Decoder, read_policy
from kvsim.testing.subject.calls import Chunks, equal
from kvsim.testing.verdict.failure import Candidate, Diagnosis
from kvsim.weights import Weights


@dataclass(frozen=True)
class Vote:
    """The result of one feed: the expected array and the one that came, of the same shape; `got` None: no array."""

    expected: Any
    got: Any
    allowed: float

    @property
    def fails(self) -> bool:
        return self.got is not None and not equal(self.got, self.expected, self.allowed)


class Suspects:
    """Every reading of every mistake that can be made in a model under a policy, run on the same texts when asked."""

    def __init__(self, config: Config, weights: Weights, policy: str, texts: list[Chunks]) -> None:
        self.config, self.policy = as_window(config, policy)
        self.weights, self.texts = weights, texts
        self.model = (repr(self.config), fingerprint(weights))  # the key of its runs in KNOWN

    def readings(self) -> list[tuple[Mistake, list[type[Any]]]]:
        family = self.policy.partition(":")[0]
        return [(m, m.variants) for m in BANK.values() if m.family in ("dynamic", family)]

    def run(self, mistake: Mistake, cls: type[Any], wanted: list[int]) -> dict[int, Any]:
        """Logits [T, V] of the wanted texts; those that it cannot read are missing. Runs are reused from KNOWN."""
        lossless = self.policy.partition(":")[0] in ("dynamic", "static", "paged")
        policy = "dynamic" if lossless and mistake.family == "dynamic" else self.policy
        if cls.fresh is Decoder.fresh:
            outputs = {i: self._known(cls, policy, [self.texts[i]])[0] for i in wanted}
        else:  # what it was fed before matters
            outputs = dict(enumerate(self._known(cls, policy, self.texts)))
        return {i: outputs[i] for i in wanted if outputs[i] is not None}

    def _known(self, cls: type[Any], policy: str, texts: list[Chunks]) -> list[Any]:
        key = (cls, self.model, policy, tuple(tuple(map(tuple, text)) for text in texts))
        return KNOWN.get(key, lambda: run_decoder(cls, self.config, self.weights, policy, texts))


def as_window(config: Config, policy: str) -> tuple[Config, str]:
    """The model and the cache policy to run: under `window:W`, the model with that window and the full cache."""
    name, options = read_policy(policy)
    if name != "window":
        return config, policy
    kinds = [replace(k, window=options if k.window is None else min(k.window, options)) for k in config.layers]
    return replace(config, layers=tuple(kinds)), "dynamic"


def diagnose(votes: list[Vote], suspects: Any) -> Diagnosis:
    """The mistakes that explain every feed, those that passed included: one feed that a mistake does not explain shows
    that it is another one. If none does, `nearest` is the one that explains most feeds, and at least half of those that
    fail. For speed, a mistake that explains none of the three shortest failing feeds is not run on the others.

    Feeds without any finite number are left out, unless all failing feeds are such: then places of NaN are compared.
    """
    given = [i for i, v in enumerate(votes) if v.got is not None]
    finite = [i for i in given if np.isfinite(votes[i].got).any()]
    blank = any(votes[i].fails for i in given) and not any(votes[i].fails for i in finite)
    compared = given if blank else finite
    failing = sorted((i for i in compared if votes[i].fails), key=lambda i: votes[i].got.size)
    found = []
    for mistake, classes in suspects.readings():
        best = (0, 0, 0, 0)
        for number, cls in enumerate(classes if failing else (), start=1):
            first = suspects.run(mistake, cls, failing[:3])
            if not any(_explains(votes[i], output) for i, output in first.items()):
                continue
            outputs = first | suspects.run(mistake, cls, [i for i in compared if i not in first])
            same = {i for i, output in outputs.items() if _explains(votes[i], output)}
            wrong = [i for i in failing if i in same]
            best = max(best, (len(same), len(wrong), -number, sum(votes[i].got.size for i in wrong)))
        if 2 * best[1] >= len(failing) > 0:
            found.append(Candidate(mistake, failing=best[1], all=best[0], values=best[3], reading=-best[2]))
    named = tuple(c for c in found if c.all == len(compared))
    nearest = None if named or blank else max(found, key=lambda c: (c.all, c.failing), default=None)
    return Diagnosis(named, len(failing), len(compared), blank, nearest)


def _explains(vote: Vote, output: Any) -> bool:
    """Is the output the one under test, to within twice the allowed difference? If the feed fails, it must also explain
    more than half of the squared difference from the right answer: in a coarse format, a mistake with hardly any effect
    would otherwise be within the allowed difference.
    """
    if _same_blanks(vote.got, output):
        return True
    if not equal(vote.got, output, 2 * vote.allowed):
        return False
    finite = np.isfinite(output)
    left, all = (np.square(vote.got - other)[finite].sum() for other in (output, vote.expected))
    return not vote.fails or bool(2 * left < all)


def _same_blanks(got: Any, output: Any) -> bool:
    """Neither has a finite number, and both have NaN in the same places."""
    if got.shape != output.shape or np.isfinite(got).any() or np.isfinite(output).any():
        return False
    return bool(np.array_equal(np.isnan(got), np.isnan(output)))


def run_decoder(cls: type[Decoder], config: Config, weights: Weights, policy: str, texts: list[Chunks]) -> list[Any]:
    """Logits [T, V] of every text, fed to one decoder class one after another; None where it raises."""
    decoder: Decoder | None = None
    outputs: list[Any] = []
    for text in texts:
        decoder = cls(config, weights, policy) if decoder is None else decoder.fresh()
        try:
            with np.errstate(all="ignore"):
                outputs.append(np.concatenate([decoder.forward(chunk) for chunk in text]))
        except (ValueError, IndexError):
            decoder = None
            outputs.append(None)
    return outputs
