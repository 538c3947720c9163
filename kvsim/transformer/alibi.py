"""The slopes of linear position biases (arXiv:2108.12409), one for each query head."""

from functools import lru_cache

from kvsim.config import Alibi


def _of_power(power: int) -> list[float]:
    """2^(-8i/n) for a power of two n of heads."""
    return [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]


@lru_cache(maxsize=64)
def slopes(alibi: Alibi) -> tuple[float, ...]:
    """The slope of each head: for a power of two n of heads 2^(-8i/n).

    For other counts either the slopes of the next smaller power, then every other one of the next larger (the paper's
    own code), or of the next larger power every other slope first, then those between, as far as there are heads (MPT).
    """
    n = alibi.n_heads
    if n & (n - 1) == 0:
        return tuple(_of_power(n))
    larger = _of_power(1 << n.bit_length())
    if alibi.order == "mpt":
        return tuple((larger[1::2] + larger[::2])[:n])
    smaller = _of_power(1 << (n.bit_length() - 1))
    return tuple(smaller + larger[::2][: n - len(smaller)])
