"""What two texts on KV caching claim, held against what kvsim computes.

The texts: chapter 22 of W. Zhang's book on transformers (2026; waylandz.com/llm-transformer-book) and the article on KV
caching on Hugging Face (not-lain, 2025; huggingface.co/blog/not-lain/kv-caching). What a text says, times that it
published included, is an input here (`said`). Everything else is computed, and so is the verdict:

    right     what the text says is exact
    rounded   it is at most 5 % off
    wrong     it is more than that off, or the other way round
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any, NamedTuple

from kvsim.errors import Words

SCHEMA = "kvsim.claims/1"
HALF_WIDTH = Fraction(5, 100)  # of the exact value: what still passes as rounded
VERDICTS = ("right", "rounded", "wrong")


class Decimal(NamedTuple):
    """An exact fraction, and the decimals that are shown of it."""

    value: Fraction
    places: int

    def __str__(self) -> str:
        """Rounded half up, from integers.

        >>> str(Decimal(Fraction(56_197, 11_885), 2)), str(Decimal(Fraction(-1, 8), 2))
        ('4.73', '-0.12')
        """
        scaled = floor(self.value * 10**self.places + Fraction(1, 2))
        sign, (left, right) = "-" if scaled < 0 else "", divmod(abs(scaled), 10**self.places)
        return f"{sign}{left:,}.{right:0{self.places}d}" if self.places else f"{sign}{left:,}"


Value = int | Decimal


@dataclass(frozen=True)
class Claim:
    """One claim: what a text says, what is exact, the verdict."""

    id: str
    section: str  # of the book's chapter, or "HF"
    claim: Words  # in our own words; {said} is the text's own figure
    said: str  # as the text writes it; empty where it gives none
    exact: Words  # the exact state of things, with the values' names in braces
    values: Mapping[str, Value]
    verdict: str


def decide(said: Fraction | int | str, exact: Fraction | int) -> str:
    """The verdict on one figure.

    >>> decide(140, 140), decide("0.5", Fraction(524_288, 10**6)), decide(5, 4)
    ('right', 'rounded', 'wrong')
    """
    stated, exact = Fraction(said), Fraction(exact)
    if stated == exact:
        return "right"
    return "rounded" if abs(stated - exact) <= HALF_WIDTH * abs(exact) else "wrong"


def decide_fact(holds: bool) -> str:
    """The verdict on what is no figure."""
    return "right" if holds else "wrong"


def worst(*verdicts: str) -> str:
    """Of several figures in one claim."""
    return max(verdicts, key=VERDICTS.index)


def ratio(one: Fraction | int, other: Fraction | int, places: int) -> Decimal:
    """one / other."""
    return Decimal(Fraction(one) / Fraction(other), places)


def units(count: int, unit: int, places: int = 3) -> Decimal:
    """`count` in units of so many."""
    return ratio(count, unit, places)


def saved(before: int, after: int, places: int = 3) -> Decimal:
    """Percent of `before` that is not in `after`."""
    return ratio(100 * (before - after), before, places)


def degree(values: list[int]) -> int:
    """Of the polynomial through these values at successive integers: how many differences until all are 0.

    ValueError: too few values to tell.

    >>> degree([n * n for n in range(5)])
    2
    """
    left, order = list(values), -1
    while any(left):
        left, order = [b - a for a, b in pairwise(left)], order + 1
    if len(left) < 2:
        raise ValueError(f"{len(values)} values are too few")
    return order


def list_claims() -> list[Claim]:
    """All claims, in the order of the texts."""
    from kvsim.costs.claims.bytes import list_bytes
    from kvsim.costs.claims.time import list_time
    from kvsim.costs.claims.work import list_work

    def place(claim: Claim) -> tuple[bool, list[int]]:
        article = claim.section == "HF"
        return article, [] if article else [int(part) for part in claim.section.split(".")]

    return sorted([*list_work(), *list_bytes(), *list_time()], key=place)


def to_dict(claims: list[Claim]) -> dict[str, Any]:
    """As `kvsim.claims/1` (see `kvsim schema claims`)."""
    from kvsim import __version__

    return {"schema": SCHEMA, "kvsim": __version__, "claims": [_claim_dict(claim) for claim in claims]}


def _claim_dict(claim: Claim) -> dict[str, Any]:
    values = {
        name: value
        if isinstance(value, int)
        else {"numerator": value.value.numerator, "denominator": value.value.denominator}
        for name, value in claim.values.items()
    }
    return {
        "id": claim.id,
        "section": claim.section,
        "claim": claim.claim.format(said=claim.said),
        "said": claim.said,
        "exact": claim.exact.format(**{name: tell(value) for name, value in claim.values.items()}),
        "values": values,
        "verdict": claim.verdict,
    }


def tell(value: Value) -> str:
    """A value as text: every digit of a whole number, the decimals of another."""
    return f"{value:,}" if isinstance(value, int) else str(value)
