"""Sizes that are asked for: whole numbers with a limit on either side."""

from operator import index
from typing import Any

from kvsim.errors import UsageError, shortened

LARGEST = 10**18  # tokens


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an int. UsageError: no whole number of at least `least`, or more than LARGEST."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or index(value) < least:
        raise UsageError(
            "{name} must be a whole number of at least {least}, got {got}",
            name=name,
            least=least,
            got=shortened(value),
        )
    if index(value) > LARGEST:
        raise UsageError("{name} is {got}: counts go up to {largest}", name=name, got=value, largest=LARGEST)
    return index(value)
