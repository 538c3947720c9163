"""Contexts at which the size of a cache is measured to be drawn as a line."""

from kvsim.costs.bytes.memory import Memory


def choose_curve(memory: Memory) -> list[int]:
    """Contexts up to the largest of `memory`, in ascending order: its own, two a doubling, and where a window is full.
    They begin at its smallest context, or at a 64th of the largest."""
    own = {held.context for held in memory.contexts}
    last = max(own)
    first = max(1, min(*own, last // 64))
    doublings = {1 << k for k in range(last.bit_length())}
    windows = {rows.window - 1 for rows in memory.rows if rows.window is not None}
    return sorted(
        n for n in own | {first} | doublings | {n * 3 // 2 for n in doublings} | windows if first <= n <= last
    )
