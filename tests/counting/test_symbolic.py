"""Polynomials in the context length, compared with their values at integers."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.counting.symbolic import Poly, Split, pieces, sign_changes, sum_over, value_at

LO, HI = -3, 40
coefficients = st.lists(st.integers(-9, 9), min_size=1, max_size=4)


def poly(of, lo=LO, hi=HI):
    """The polynomial with these coefficients, lowest degree first; an int if it is constant."""
    t, value = Poly((0, 1), lo, hi), 0
    for c in reversed(of):
        value = value * t + c
    return value


@given(coefficients, coefficients, st.integers(LO, HI))
def test_arithmetic(a, b, t):
    p, q = poly(a), poly(b)
    x, y = value_at(p, t), value_at(q, t)
    assert value_at(p + q, t) == x + y
    assert value_at(p - q, t) == x - y
    assert value_at(p * q, t) == x * y
    assert value_at(-p, t) == -x
    assert value_at(7 + p, t) == 7 + x
    assert value_at(7 - p, t) == 7 - x
    assert value_at(3 * p, t) == 3 * x
    assert x == sum(c * t**i for i, c in enumerate(a))


@given(coefficients, coefficients, st.integers(LO, HI))
def test_exact_division(a, b, t):
    p, q = poly(a), poly(b)
    if type(p) is Poly and q != 0 if type(q) is int else type(p * q) is Poly:
        assert (p * q) // q == p
        assert value_at(p * (p - 1) // 2, t) == value_at(p, t) * (value_at(p, t) - 1) // 2


def test_division_with_a_remainder_is_refused():
    t = Poly((0, 1), 0, 9)
    for wrong in (lambda: t // 2, lambda: (t * t + 1) // t, lambda: (t * t + t + 1) // 2):
        with pytest.raises(ValueError, match="has a remainder"):
            wrong()
    assert (t * (t + 1) // 2).coefficients == (0, Fraction(1, 2), Fraction(1, 2))


@given(coefficients, coefficients, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_a_comparison_is_constant_or_splits_where_it_changes(a, b, operator):
    values = [compare(operator, value_at(poly(a), t), value_at(poly(b), t)) for t in range(LO, HI + 1)]
    try:
        assert set(values) == {compare(operator, poly(a), poly(b))}
    except Split as split:
        at = split.at - LO
        assert 0 < at < len(values)
        assert len(set(values[:at])) == 1
        assert values[at] != values[0]


def compare(operator, x, y):
    """x `operator` y, evaluating no other comparison: each may raise Split at another point."""
    if operator in ("<", "<="):
        return x < y if operator == "<" else x <= y
    if operator in (">", ">="):
        return x > y if operator == ">" else x >= y
    return x == y if operator == "==" else x != y


@given(coefficients, st.integers(-30, 30), st.integers(0, 60))
def test_sign_changes(a, lo, length):
    hi = lo + length
    signs = [(v > 0) - (v < 0) for v in (sum(c * t**i for i, c in enumerate(a)) for t in range(lo, hi + 1))]
    turns = [lo + i for i in range(1, len(signs)) if signs[i] != signs[i - 1]]
    assert sign_changes(tuple(a), lo, hi) == turns


@given(coefficients, st.integers(LO, HI), st.integers(LO - 5, HI))
def test_sums(a, lo, hi):
    assert sum_over(poly(a), lo, hi) == sum(value_at(poly(a), t) for t in range(lo, hi + 1))


def test_sums_with_fractional_coefficients():
    t = Poly((0, 1), 0, 10**12)
    assert sum_over(t * (t + 1) // 2, 1, 10**12) == 10**12 * (10**12 + 1) * (10**12 + 2) // 6


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-20, 40)), min_size=1, max_size=4), st.integers(1, 60))
def test_pieces_equal_the_function(caps, hi):
    """min and max of several lines, split where they cross; the pieces are in order and cover every t once."""

    def make(t):
        value = 0
        for slope, cap in caps:
            value = max(value + min(slope * t, cap), slope - t)
        return value

    found = list(pieces(1, hi, make))
    assert [p.lo for p in found] == [1, *(p.hi + 1 for p in found[:-1])]
    assert found[-1].hi == hi
    for piece in found:
        for t in range(piece.lo, piece.hi + 1):
            assert value_at(piece.value, t) == make(t)


@given(st.integers(0, 300), st.integers(0, 5000))
def test_bit_length(lo, length):
    hi = lo + length
    found = list(pieces(lo, hi, lambda t: t.bit_length()))
    for piece in found:
        assert {t.bit_length() for t in range(piece.lo, piece.hi + 1)} == {piece.value}
    assert len(found) <= hi.bit_length() + 1


def test_unsupported_uses_of_a_polynomial_are_errors():
    t = Poly((0, 1), 1, 9)
    for wrong in (lambda: range(t), lambda: [0] * t, lambda: int(t), lambda: t + 0.5, lambda: t * "a"):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match=r"expected a t of 1 .. 9"):
        t(10)
    with pytest.raises(TypeError):
        _ = t + Poly((0, 1), 1, 8)
    assert bool(t)
    with pytest.raises(Split):
        bool(t - 5)
    assert {t: 1}[Poly((0, 1), 1, 9)] == 1
    assert str(t * t - 3 * t + 1) == "t^2 - 3*t + 1"
