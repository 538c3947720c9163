"""Helpers of the tests of lossy policies."""

from dataclasses import replace

import numpy as np

from kvsim.config import Rope
from tests.models import CLOSE, PRIMES

NAMES = ("h2o", "snapkv", "knorm")  # the policies that evict
# Fast rotations: a position that is one off is seen. (At 10000 the slow pairs hardly move.)
TURNING = replace(PRIMES, layers=(replace(PRIMES.layers[0], rope=Rope(10.0, 10)),) * 2)


def random_ids(config, length, seed=0):
    """Distinct ids, whose keys differ."""
    return [int(i) for i in np.random.default_rng(seed).permutation(config.vocab_size)[:length]]


def assert_close(got, wanted):
    assert np.abs(got - wanted).max() <= CLOSE["float64"] * np.abs(wanted).max()
