"""Options of the quantised caches, the text after the colon of "int8:group=32,residual=64,zero,head".

`group`: number of tokens that share a scale of keys, and of channels that share a scale of values. `residual`: smallest
number of newest rows that are not quantised. `zero`: with zero points. `head`: one scale for each token of each head,
for keys and values alike (as engines store fp8); rows are still quantised in whole groups of tokens. Printed in this
order, without defaults.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from kvsim.caches.base import Shape
from kvsim.caches.quantised.codes import Groups
from kvsim.checks import parse_whole
from kvsim.errors import UsageError, shortened

GROUP, RESIDUAL = 64, 128  # defaults


class Options(NamedTuple):
    """The parsed options."""

    group: int = GROUP
    residual: int = RESIDUAL
    zero: bool = False
    head: bool = False

    def __str__(self) -> str:
        sizes = [("group", self.group, GROUP), ("residual", self.residual, RESIDUAL)]
        flags = [("zero", self.zero), ("head", self.head)]
        changed = [f"{name}={size}" for name, size, default in sizes if size != default]
        return ",".join(changed + [name for name, given in flags if given])

    def quantised(self, rows: int) -> int:
        """How many of the first `rows` rows are quantised: whole groups, all but the newest `residual` at least.

        >>> Options().quantised(4096), Options().quantised(191)
        (3968, 0)
        """
        return max(0, (rows - self.residual) // self.group * self.group)

    def channels(self, d_value: int) -> int:
        """Number of channels of a value that share a scale: `group`, or all if fewer than the default group."""
        return d_value if self.head or (self.group == GROUP and d_value < GROUP) else self.group

    def groups(self, shape: Shape) -> tuple[Groups, Groups]:
        """The groups of keys and of values."""
        keys = Groups(1, shape.d_key) if self.head else Groups(self.group, 1)
        return keys, Groups(1, self.channels(shape.d_value))


def fitting_groups(d_value: int) -> list[int]:
    """The group sizes that divide values of `d_value` channels; of those of large values the smaller ones."""
    fitting = [size for size in range(1, min(d_value, 1_024) + 1) if d_value % size == 0]
    return fitting + ([GROUP] if d_value < GROUP else [])


def read_options(name: str, text: str, flags: Sequence[str]) -> Options:
    """The options `text` of the cache `name`, which takes `flags`. UsageError: an unknown or a repeated option."""
    found: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        key, _, size = part.partition("=")
        is_size = key in ("group", "residual") and re.fullmatch("[0-9]+", size) and parse_whole(key, size) > 0
        if key in found or not (is_size or part in flags):
            raise UsageError(
                "the cache {name} takes {known}, each once and N at least 1: {got} is none of them",
                name=name,
                known=", ".join(["group=N", "residual=N", *flags]),
                got=shortened(part),
            )
        found[key] = int(size) if is_size else True
    return Options(**found)
