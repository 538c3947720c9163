"""What a claim is, and how its verdict is found:

right     what the text says is exact
rounded   it is at most 5 % off
wrong     it is more than that off, or the opposite of what is so
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import NamedTuple

from kvsim.errors import Words

TOLERANCE = Fraction(5, 100)  # of the exact value, for "rounded"
VERDICTS = ("right", "rounded", "wrong")


class Decimal(NamedTuple):
    """An exact fraction, and the number of decimals to print."""

    value: Fraction
    places: int

    def __str__(self) -> str:
        """Rounded half up, in integer arithmetic.

        >>> str(Decimal(Fraction(56_197, 11_885), 2)), str(Decimal(Fraction(-1, 8), 2))
        ('4.73', '-0.12')
        """
        scaled = floor(self.value * 10**self.places + Fraction(1, 2))
        sign, (left, right) = "-" if scaled < 0 else "", divmod(abs(scaled), 10**self.places)
        return f"{sign}{left:,}.{right:0{self.places}d}" if self.places else f"{sign}{left:,}"


Value = int | Decimal


@dataclass(frozen=True)
class Claim:
    """One claim: what a text says, the exact value, the verdict."""

    id: str
    section: str  # of the book's chapter, or "HF"
    claim: Words  # in our own words; {said} is the text's own figure
    said: str  # as the text writes it; empty where it gives none
    exact: Words  # the exact statement, with the names of the values in braces
    values: Mapping[str, Value]
    verdict: str

    def __repr__(self) -> str:
        return f"Claim({self.id!r}, section={self.section!r}, verdict={self.verdict!r})"

    @property
    def formatted(self) -> dict[str, str]:
        """{name: value as text}."""
        return {name: format_value(value) for name, value in self.values.items()}


def decide(said: Fraction | int | str, exact: Fraction | int) -> str:
    """The verdict on the figure `said`.

    >>> decide(140, 140), decide("0.5", Fraction(524_288, 10**6)), decide(5, 4)
    ('right', 'rounded', 'wrong')
    """
    stated, exact = Fraction(said), Fraction(exact)
    if stated == exact:
        return "right"
    return "rounded" if abs(stated - exact) <= TOLERANCE * abs(exact) else "wrong"


def decide_fact(holds: bool) -> str:
    """The verdict on a statement without a figure."""
    return "right" if holds else "wrong"


def worst(*verdicts: str) -> str:
    """The worst of the verdicts on the figures of one claim."""
    return max(verdicts, key=VERDICTS.index)


def ratio(one: Fraction | int, other: Fraction | int, places: int) -> Decimal:
    """one / other, with `places` decimals."""
    return Decimal(Fraction(one) / Fraction(other), places)


def units(count: int, unit: int, places: int = 3) -> Decimal:
    """`count` in multiples of `unit`."""
    return ratio(count, unit, places)


def saved(before: int, after: int, places: int = 3) -> Decimal:
    """The reduction from `before` to `after`, in percent of `before`."""
    return ratio(100 * (before - after), before, places)


def degree(values: list[int]) -> int:
    """The degree of the polynomial through these values at successive integers: one less than the number of forward
    differences until all are 0.

    ValueError: too few values.

    >>> degree([n * n for n in range(5)])
    2
    """
    left, order = list(values), -1
    while any(left):
        left, order = [b - a for a, b in pairwise(left)], order + 1
    if len(left) < 2:
        raise ValueError(f"{len(values)} values are too few")
    return order


def format_value(value: Value) -> str:
    """A value as text: all digits of an integer, the chosen decimals of a fraction."""
    return f"{value:,}" if isinstance(value, int) else str(value)
