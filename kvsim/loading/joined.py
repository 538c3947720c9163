"""Where matrices that meet the same rows are read to: one below the other in one array, so that one product can do
for all of them (`kvsim.fast.numpy_ops`) and none is held twice."""

from itertools import product
from typing import Any

import numpy as np

from kvsim.blueprint import build_weights
from kvsim.config import Config

JOINED = (("query", "key", "value"), ("gate", "up"))


def reserve_places(config: Config, dtype: str) -> dict[str, Any]:
    """Name of a matrix or bias -> the rows [out, in], or [out], of a larger array that are kept for it, not written
    yet. Only for those that have neighbours; in cross-attention, whose queries meet other rows than its keys, nobody
    has."""
    shapes: dict[str, tuple[int, ...]] = {}
    build_weights(config, shapes.__setitem__)
    places: dict[str, Any] = {}
    for (first, *others), kind in product(JOINED, ("weight", "bias")):
        for name in [name for name in shapes if name.endswith(f".{first}.{kind}") and ".cross." not in name]:
            at = name.removesuffix(f"{first}.{kind}")
            group = [name, *(f"{at}{other}.{kind}" for other in others)]
            if not all(part in shapes for part in group):
                continue
            whole = np.empty((sum(shapes[part][0] for part in group), *shapes[name][1:]), dtype)
            row = 0
            for part in group:
                places[part] = whole[row : row + shapes[part][0]]
                row += shapes[part][0]
    return places
