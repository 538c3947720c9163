"""Mistake by what it is named as. `python -m tests.testing.confusion` prints the table."""

from collections import Counter
from functools import cache

import numpy as np

from kvsim.testing.bank import BANK
from kvsim.testing.decoder import Decoder
from kvsim.testing.diagnosing import Suspects, Vote, diagnose, run_decoder
from kvsim.testing.model_weights import make_weights
from kvsim.testing.programme import feeds, text_of
from kvsim.testing.references import Reference, allow, changed
from kvsim.testing.rounding import rounding

WINDOW = {"dynamic": 4}


class Remembering(Suspects):
    """Runs each reading once."""

    def __init__(self, *args):
        super().__init__(*args)
        self.known = {}

    def run(self, mistake, cls, wanted):
        if cls not in self.known:
            self.known[cls] = super().run(mistake, cls, list(range(len(self.texts))))
        return {i: output for i, output in self.known[cls].items() if i in wanted}


class Programme:
    """One policy's feeds, the right answers, and every reading's, in one dtype."""

    def __init__(self, policy, dtype):
        self.policy, self.dtype = policy, dtype
        self.reference = Reference(make_weights(window=WINDOW.get(policy), dtype=dtype))
        config = self.reference.config
        chosen = feeds(config, policy)
        numbers = [*range(len(chosen) - 1), 0]
        self.texts = [text_of(f, n, config.vocab_size) for f, n in zip(chosen, numbers, strict=True)]
        self.expected = run_decoder(Decoder, config, self.reference.weights, policy, self.texts)
        own = 0.0 if dtype == "float64" else self.reference.own_error(self.texts, dtype)
        self.allowed = allow(dtype, max(own, 1e-14), max(np.abs(e).max() for e in self.expected)).value
        self.suspects = Remembering(config, self.reference.weights, policy, self.texts)

    def outputs(self, cls, dtype):
        """A learner's: the mistake, in the dtype."""
        keep = rounding(dtype)
        weights = changed(self.reference.weights, keep)
        learner = type(cls.__name__, (cls,), {"__init__": lambda d, *a: cls.__init__(d, *a[:3], keep)})
        return run_decoder(learner, self.reference.config, weights, self.policy, self.texts)

    def votes(self, cls):
        if self.dtype == "float64":
            outputs = self.suspects.run(*self._entry(cls), list(range(len(self.texts))))
            outputs = [outputs.get(i) for i in range(len(self.texts))]
        else:
            outputs = self.outputs(cls, self.dtype)
        return [Vote(e, o, self.allowed) for e, o in zip(self.expected, outputs, strict=True)]

    def _entry(self, cls):
        return next((m, cls) for m in BANK.values() if cls in m.variants)

    def named(self, cls):
        return diagnose(self.votes(cls), self.suspects).ids


@cache
def programme(policy, dtype):
    return Programme(policy, dtype)


READINGS = [(m, cls) for m in BANK.values() for cls in m.variants]


def table(dtype):
    found = {m.id: Counter() for m in BANK.values()}
    for m, cls in READINGS:
        found[m.id][programme(m.policy, dtype).named(cls)] += 1
    for id, named in found.items():
        told = ", ".join(f"{' or '.join(ids) or 'unknown'} x{n}" for ids, n in named.items())
        print(f"{dtype:<8} {id:<42} {told}")


if __name__ == "__main__":
    table("float64")
    table("float32")
