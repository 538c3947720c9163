"""Limits on what a check computes with. Sizes beyond them are refused before anything is made of these sizes."""

from math import prod

from kvsim.errors import UsageError

NUMBERS = 2**26  # in one array, or in all weights together: 512 MiB in float64
CASES = 10_000  # more feeds at random: each is a run of its own


def check_room(*sizes: int) -> None:
    """UsageError: the product of these sizes is more than NUMBERS."""
    if prod(sizes) > NUMBERS:
        raise UsageError(
            "these sizes need {numbers} numbers at once: a check computes with up to {most}",
            numbers=prod(sizes),
            most=NUMBERS,
        )
