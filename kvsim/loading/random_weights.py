"""Random weights for any `Config`: for tests of the arithmetic and for timing."""

from typing import Any

import numpy as np

from kvsim.blueprint import build_weights
from kvsim.config import Config
from kvsim.weights import Weights


def random_weights(config: Config, seed: int = 0, dtype: str = "float64") -> Weights:
    """Host arrays in which no parameter keeps a value that would hide a mistake (gains around 1,
    biases around 0), scaled so that logits are of the order of 1."""
    generator = np.random.default_rng(seed)

    def make(name: str, shape: tuple[int, ...]) -> Any:
        x = generator.standard_normal(shape)
        if name.endswith(".gain"):
            x = 1.0 + 0.3 * x
        elif name.endswith(".weight"):
            x *= 1.5 / np.sqrt(shape[-1])
        elif name.endswith(".bias"):
            x *= 0.2
        return x.astype(dtype)

    return build_weights(config, make)
