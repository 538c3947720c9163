"""The confusion table of the mistake bank: each mistake and its diagnoses, and every stranger and its. `python -m
tests.testing.confusion` prints it for float64 and float32, or for the dtypes given as arguments; its exit code is 1 if
anything was named as what it is not."""

import sys
from collections import Counter
from functools import cache

import numpy as np

from kvsim.testing.bank import BANK
from kvsim.testing.checks.edits import assert_edits, edits_of
from kvsim.testing.feeds.boundaries import choose_text, measure_margins
from kvsim.testing.feeds.chunking import choose_feeds, make_text
from kvsim.testing.feeds.feeding import CLEARED, CLEARED_AFTER, CLEARED_NUMBER
from kvsim.testing.feeds.references import Reference, allow
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.independent.rounding import rounding
from kvsim.testing.subject.weights import make_weights
from kvsim.testing.verdict.decoders import steps_of
from kvsim.testing.verdict.diagnosing import Suspects, Vote, diagnose, run_decoder
from kvsim.testing.verdict.error import OracleError
from kvsim.weights import map_arrays

WINDOW = {"dynamic": 4}


class Programme:
    """Under one policy and in one dtype: feeds, the correct logits, and the votes on every implementation of a
    mistake."""

    def __init__(self, policy, dtype, rope="half"):
        self.policy, self.dtype = policy, dtype
        # bfloat16 weights are exact in every dtype, so that the suspects' logits are computed once for all dtypes.
        # Under int8 each dtype has different texts anyway.
        stored = dtype if policy.startswith("int8") else "bfloat16"
        sizes = {"window": WINDOW.get(policy)} if rope == "half" else {"rope": rope, "heads": 2, "layers": 1}
        self.reference = Reference(make_weights(dtype=stored, **sizes), policy)
        config = self.reference.config
        chosen = choose_feeds(config, policy)
        numbers = [*range(len(chosen) - 1), 0]
        margins = measure_margins(self.reference, max(chosen, key=sum), dtype, 0)
        self.texts = [choose_text(self.reference, f, n, 0, margins) for f, n in zip(chosen, numbers, strict=True)]
        after = next((i for i, feed in enumerate(chosen) if feed == CLEARED_AFTER), 0) + 1
        coded = policy.startswith("int8")
        self.cleared = set() if coded else {after}
        if not coded:
            self.texts.insert(after, make_text(CLEARED, CLEARED_NUMBER, config.vocab_size))
        self.expected = run_decoder(Decoder, config, self.reference.weights, policy, self.texts)
        own = 0.0 if dtype == "float64" else self.reference.own_error(self.texts, dtype)
        self.allowed = allow(dtype, max(own, 1e-14), max(np.abs(e).max() for e in self.expected)).value
        self.cast = {}  # votes by class
        self.suspects = Suspects(config, self.reference.weights, policy, self.texts, self.cleared)

    def outputs(self, cls, dtype):
        """Logits of the decoder class `cls` computed in `dtype`, for every text."""
        keep = rounding(dtype)
        weights = map_arrays(self.reference.weights, keep)
        rounded = type(cls.__name__, (cls,), {"__init__": lambda d, *a: cls.__init__(d, *a[:3], keep)})
        return run_decoder(rounded, self.reference.config, weights, self.policy, self.texts, self.cleared)

    def votes(self, cls):
        if cls not in self.cast:
            self.cast[cls] = self._vote(cls)
        return self.cast[cls]

    def _vote(self, cls):
        if self.dtype == "float64":
            outputs = self.suspects.run(*self._entry(cls), list(range(len(self.texts))))
            outputs = [outputs.get(i) for i in range(len(self.texts))]
        else:
            outputs = self.outputs(cls, self.dtype)
        steps = [steps_of(tuple(map(len, text))) for text in self.texts]
        return [Vote(e, o, self.allowed, s) for e, o, s in zip(self.expected, outputs, steps, strict=True)]

    def _entry(self, cls):
        return next((m, cls) for m in BANK.values() if cls in m.variants)

    def named(self, cls):
        return diagnose(self.votes(cls), self.suspects).ids


@cache
def programme(policy, dtype, rope="half"):
    return Programme(policy, dtype, rope)


def programme_of(mistake, dtype):
    return programme(mistake.policy, dtype, mistake.rope)


READINGS = [(m, cls) for m in BANK.values() if not m.edits for cls in m.variants]
EDITS = [(m, cls) for m in BANK.values() if m.edits for cls in m.variants]


# Mistakes that are not caught in a dtype: its rounding changes logits by more than the mistake does.
LOST = {
    "float64": (),
    "float32": (),
    "float16": ("quantised_scale_axis", "quantised_twice", "quantised_not_at_all", "quantised_wrong_group"),
    "bfloat16": (
        "quantised_scale_axis",
        "quantised_truncates",
        "quantised_twice",
        "quantised_not_at_all",
        "quantised_wrong_group",
    ),
}
# Readings that are none in a dtype: the rows are as fine as the computation.
NONE_IN = {"float32": ["KeptInFloat32", "KeptInFloat32OnceCached", "ReadRoundedFloat32"]}
NONE_IN["float16"] = NONE_IN["bfloat16"] = NONE_IN["float32"]


def is_lost(mistake, cls, dtype):
    return mistake.id in LOST[dtype] or cls.__name__ in NONE_IN.get(dtype, ())


# Caught without a diagnosis: most of the difference comes from numbers that get other codes once rounded to float16.
UNNAMED = {"float16": ("quantised_truncates",)}
# Caught without a diagnosis: one of its scales is so near a rounding boundary that float32 gives another.
ON_A_BOUNDARY = (("GroupsOfOne", "float32"),)
# Caught without a diagnosis: every number that differs is NaN, and there are many ways to NaN.
BLANK = ("StrictMask",)


def table(dtype):
    """Print for each mistake the diagnoses of its readings, and how often each occurs. The number of false names."""
    found, caught = {m.id: Counter() for m in BANK.values()}, 0
    for m, cls in READINGS:
        known = programme_of(m, dtype)
        caught += any(vote.fails for vote in known.votes(cls))
        found[m.id][known.named(cls)] += 1
    for m, cls in EDITS:
        ids = named_by_edits(m, cls, dtype)
        caught += ids is not None
        found[m.id][ids or ()] += 1
    for id, named in found.items():
        diagnoses = ", ".join(f"{' or '.join(ids) or 'unknown'} x{n}" for ids, n in named.items())
        print(f"{dtype:<8} {id:<42} {diagnoses}")
    right = sum(named[(id,)] for id, named in found.items())
    false = sum(n for id, named in found.items() for ids, n in named.items() if ids not in ((), (id,)))
    alone = sum(set(named) == {(id,)} for id, named in found.items())
    print(f"{dtype:<8} readings: {caught} of {len(READINGS) + len(EDITS)} caught, {right} named as their mistake alone,"
          f" {false} false names; {alone} of {len(found)} mistakes in every reading", flush=True)  # fmt: skip
    return false


def named_by_edits(mistake, cls, dtype):
    """The ids that `assert_edits` gives a reading of a mistake in an edit; None: it passes."""
    weights = make_weights(window=4, dtype=dtype)
    one = edits_of(cls, Reference(weights))
    try:
        assert_edits(one.make, one.step, weights, crop=one.crop, fork=one.fork, reorder=one.reorder)
    except OracleError as error:
        return tuple(id for id in error.facts["diagnosis"] if id != "unknown")
    return None


def strangers(dtype):
    """Print the strangers that are not named as their own mistake, or accepted if right. The number of false names."""
    from tests.testing.strangers.every import FALSE, NAMED, RIGHT, UNKNOWN, every_stranger, judge

    counted = Counter()
    for stranger in every_stranger():
        said, ids = judge(stranger, dtype)
        missed = said == RIGHT and stranger.expected
        counted[(bool(stranger.expected), "accepted" if missed else said)] += 1
        if said == FALSE or missed or (said == UNKNOWN and stranger.expected != "unknown"):
            name = f"{stranger.file}.{stranger.cls.__name__}"
            print(f"{dtype:<8} {name:<42} {' or '.join(ids) or said}, expected {stranger.expected or 'right'}")
    right, wrong = counted[(False, RIGHT)], {said: counted[(True, said)] for said in (NAMED, UNKNOWN, "accepted")}
    false = counted[(False, FALSE)] + counted[(True, FALSE)]
    print(f"{dtype:<8} strangers: {right} right ones accepted, {counted[(False, FALSE)]} refused; of the wrong ones"
          f" {wrong[NAMED]} named, {wrong[UNKNOWN]} unknown, {wrong['accepted']} accepted, {false} false names",
          flush=True)  # fmt: skip
    return false


if __name__ == "__main__":
    sys.exit(min(1, sum([table(dtype) + strangers(dtype) for dtype in sys.argv[1:] or ("float64", "float32")])))
