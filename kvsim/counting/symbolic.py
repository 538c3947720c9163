"""Symbolic sizes: exact polynomials in the context length t, over an interval of t.

Arithmetic gives polynomials. A comparison gives a bool if it has one result over the whole interval; otherwise it
raises `Split` with the first t of another result. `pieces` catches that and runs again on both parts, which become
the pieces of a closed form.

    >>> [(piece.lo, piece.hi, str(piece.value)) for piece in pieces(1, 9, lambda t: min(t, 4) * t)]
    [(1, 4, 't^2'), (5, 9, '4*t')]
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import comb
from typing import Any, Generic, NamedTuple, TypeVar

Number = int | Fraction
T = TypeVar("T")


class Split(Exception):  # noqa: N818 (control flow, not an error)
    """Raised when a comparison has another result from t = `at` on."""

    def __init__(self, at: int) -> None:
        self.at = at
        super().__init__(f"decided differently from t = {at} on")


def evaluate(coefficients: tuple[Number, ...], t: int) -> Number:
    """c₀ + c₁ t + c₂ t² + ..."""
    value: Number = 0
    for c in reversed(coefficients):
        value = value * t + c
    return value


def forward_difference(coefficients: tuple[Number, ...]) -> tuple[Number, ...]:
    """The polynomial p(t + 1) - p(t)."""
    return tuple(
        sum((c * comb(j, i) for j, c in enumerate(coefficients) if j > i), 0) for i in range(len(coefficients) - 1)
    )


def _sign(value: Number) -> int:
    return (value > 0) - (value < 0)


def sign_changes(coefficients: tuple[Number, ...], lo: int, hi: int) -> list[int]:
    """Every t in lo+1 .. hi at which the polynomial has another sign (-1, 0, 1) than at t - 1.

    Between the sign changes of its forward difference it is monotone on the integers: bisection finds its sign
    changes there.
    """
    if len(coefficients) < 2 or lo >= hi:
        return []
    found = []
    turns = sign_changes(forward_difference(coefficients), lo, hi - 1)
    for first, last in zip([lo, *turns], [*turns, hi], strict=True):
        t = first
        while (sign := _sign(evaluate(coefficients, t))) != _sign(evaluate(coefficients, last)):
            low, high = t, last  # the sign equals `sign` at low and differs at high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _sign(evaluate(coefficients, middle)) == sign else (low, middle)
            t = high
            found.append(t)
    return found


class Poly:
    """A polynomial in t for the integers lo <= t <= hi. Constants are plain numbers, never Poly."""

    __slots__ = ("coefficients", "hi", "lo")

    def __init__(self, coefficients: tuple[Number, ...], lo: int, hi: int) -> None:
        self.coefficients, self.lo, self.hi = coefficients, lo, hi

    def _make(self, coefficients: list[Number]) -> Any:
        while len(coefficients) > 1 and coefficients[-1] == 0:
            coefficients.pop()
        whole = [int(c) if type(c) is Fraction and c.denominator == 1 else c for c in coefficients]
        return whole[0] if len(whole) == 1 else Poly(tuple(whole), self.lo, self.hi)

    def _of(self, other: Any) -> tuple[Number, ...] | None:
        """The coefficients of the other operand; None if it is not a number or a Poly."""
        if type(other) is int:
            return (other,)
        if type(other) is Poly and (other.lo, other.hi) == (self.lo, self.hi):
            return other.coefficients
        return None

    def __call__(self, t: int) -> int:
        """The value at t. ValueError: t is outside the interval, or the value is not an integer."""
        value = evaluate(self.coefficients, t)
        if not self.lo <= t <= self.hi or value != int(value):
            raise ValueError(f"{self} at t = {t}: expected a t of {self.lo} .. {self.hi} and a whole value")
        return int(value)

    def __add__(self, other: Any) -> Any:
        if type(other) is int:
            first, *rest = self.coefficients
            return Poly((first + other, *rest), self.lo, self.hi)
        if (theirs := self._of(other)) is None:
            return NotImplemented
        short, long = sorted((self.coefficients, theirs), key=len)
        return self._make([a + b for a, b in zip(short, long, strict=False)] + list(long[len(short) :]))

    def __neg__(self) -> Any:
        return Poly(tuple(-c for c in self.coefficients), self.lo, self.hi)

    def __sub__(self, other: Any) -> Any:
        return self + -other if type(other) in (int, Poly) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if type(other) is int:
            return Poly(tuple(c * other for c in self.coefficients), self.lo, self.hi) if other else 0
        if (theirs := self._of(other)) is None:
            return NotImplemented
        made: list[Number] = [0] * (len(self.coefficients) + len(theirs) - 1)
        for i, a in enumerate(self.coefficients):
            for j, b in enumerate(theirs):
                made[i + j] += a * b
        return self._make(made)

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        """Exact division: by a polynomial that divides it, or by a number that divides all its values.

        ValueError: a remainder is left, so the quotient is not a polynomial.
        """
        if (divisor := self._of(other)) is None:
            return NotImplemented
        if len(divisor) == len(self.coefficients) and type(divisor[-1]) is int and type(self.coefficients[-1]) is int:
            times = self.coefficients[-1] // divisor[-1]
            if self.coefficients == tuple(c * times for c in divisor):
                return times
        rest, quotient = [Fraction(c) for c in self.coefficients], [Fraction(0)] * len(self.coefficients)
        while len(rest) >= len(divisor) and any(rest):
            place = len(rest) - len(divisor)
            quotient[place] = rest[-1] / divisor[-1]
            for i, c in enumerate(divisor):
                rest[place + i] -= quotient[place] * c
            rest.pop()
        # A polynomial with integer values at as many consecutive points as it has coefficients has integer values
        # everywhere.
        whole = all(evaluate(tuple(quotient), t).denominator == 1 for t in range(len(quotient)))
        if any(rest) or not whole:
            raise ValueError(f"({self}) // ({other}) has a remainder")
        return self._make(list(quotient))

    def __rfloordiv__(self, other: Any) -> Any:
        if other == 0:
            return 0
        return NotImplemented

    def _decided(self, other: Any, holds: Callable[[Number], bool], line: bool = True) -> bool:
        """Whether `holds` is true of self - other over the whole interval or nowhere. Split: neither. `line`: what
        holds at both ends of a straight line holds between them."""
        difference = self - other
        if type(difference) is not Poly:
            return holds(difference)
        coefficients, lo, hi = difference.coefficients, self.lo, self.hi
        answer = holds(evaluate(coefficients, lo))
        if line and len(coefficients) == 2 and holds(evaluate(coefficients, hi)) == answer:
            return answer
        for t in sign_changes(coefficients, lo, hi):
            if holds(evaluate(coefficients, t)) != answer:
                raise Split(t)
        return answer

    def __lt__(self, other: Any) -> bool:
        return self._decided(other, lambda x: x < 0)

    def __le__(self, other: Any) -> bool:
        return self._decided(other, lambda x: x <= 0)

    def __gt__(self, other: Any) -> bool:
        return self._decided(other, lambda x: x > 0)

    def __ge__(self, other: Any) -> bool:
        return self._decided(other, lambda x: x >= 0)

    def __eq__(self, other: object) -> bool:
        if type(other) not in (int, Poly):
            return NotImplemented
        return self._decided(other, lambda x: x == 0, line=False)

    def __hash__(self) -> int:
        return hash((self.coefficients, self.lo, self.hi))

    def __bool__(self) -> bool:
        return self != 0

    def __index__(self) -> int:
        raise TypeError(f"{self} is not known yet: t is anything of {self.lo} .. {self.hi}")

    def bit_length(self) -> int:
        """As int.bit_length; the interval is split where it grows."""
        bits = abs(self(self.lo)).bit_length()
        if self < 1 << bits and (not bits or self >= 1 << (bits - 1)):
            return bits
        raise ValueError(f"{self} has no bit length: it takes both signs")

    def __str__(self) -> str:
        terms = []
        for power, c in reversed(list(enumerate(self.coefficients))):
            if c:
                variable = "" if power == 0 else "t" if power == 1 else f"t^{power}"
                terms.append(variable if c == 1 and power else f"{c}*{variable}" if power else str(c))
        return " + ".join(terms).replace("+ -", "- ")

    __repr__ = __str__


class Piece(NamedTuple, Generic[T]):
    """One part of the result: the value for every t of lo .. hi."""

    lo: int
    hi: int
    value: T


def pieces(lo: int, hi: int, make: Callable[[Any], T]) -> Iterator[Piece[T]]:
    """`make(t)` for every t of lo .. hi, in order: called with a symbolic t, on as few parts as comparisons require.

    A part with a single t is called with a plain int.
    """
    left = [(lo, hi)]
    while left:
        lo, hi = left.pop()
        if lo > hi:
            continue
        try:
            value = make(lo if lo == hi else Poly((0, 1), lo, hi))
        except Split as split:
            left += [(split.at, hi), (lo, split.at - 1)]
            continue
        yield Piece(lo, hi, value)


def value_at(form: Any, t: int) -> int:
    """The value at t of a Poly or a plain number."""
    return form(t) if type(form) is Poly else int(form)


def sum_over(form: Any, lo: int, hi: int) -> int:
    """Σ form(t) over t = lo .. hi, exact: by Newton's forward differences and sums of binomials."""
    count = hi - lo + 1
    if count <= 0:
        return 0
    if type(form) is not Poly:
        return int(form) * count
    total, coefficients, order = Fraction(0), form.coefficients, 1
    while any(coefficients):
        total += evaluate(coefficients, lo) * comb(count, order)
        coefficients, order = forward_difference(coefficients), order + 1
    return int(total)
