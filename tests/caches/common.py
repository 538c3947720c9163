"""What the tests of lossy policies share."""

from dataclasses import replace

import numpy as np

from kvsim.config import Rope
from tests.models import CLOSE, PRIMES

NAMES = ("h2o", "snapkv", "knorm")  # the policies that evict
# Fast rotations: a position that is one off is seen. (At 10000 the slow pairs hardly move.)
TURNING = replace(PRIMES, layers=(replace(PRIMES.layers[0], rope=Rope(10.0, 10)),) * 2)


def random_ids(config, length, seed=0):
    """No token twice: in the first layer their keys would be equal, and which is the longer a matter of rounding."""
    return [int(i) for i in np.random.default_rng(seed).permutation(config.vocab_size)[:length]]


def assert_close(got, wanted):
    assert np.abs(got - wanted).max() <= CLOSE["float64"] * np.abs(wanted).max()
