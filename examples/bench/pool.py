"""Whole numbers only: how many blocks a second a pool gives out, shares and takes back, from a thousand blocks to a
million. Each call of one block is one operation; which block goes next is drawn beforehand.

    python examples/bench/pool.py [OPERATIONS]
"""

import random
import statistics
import sys
import time

from kvsim.caches.paged.blocks import BlockPool

REPEATS = 5


def fill(blocks: int, generator: random.Random) -> tuple[BlockPool, list[int]]:
    """A pool of which half is in use, in no order."""
    pool = BlockPool(blocks, 16)
    held = pool.allocate(blocks)
    generator.shuffle(held)
    pool.release(held[blocks // 2 :])
    return pool, held[: blocks // 2]


def measure(blocks: int, operations: int) -> float:
    """Operations a second: a block is allocated, shared, released twice over."""
    generator = random.Random(0)
    pool, held = fill(blocks, generator)
    places = [generator.randrange(len(held)) for _ in range(operations // 4)]
    allocate, share, release = pool.allocate, pool.share, pool.release
    start = time.perf_counter()
    for place in places:
        old = (held[place],)
        new = allocate()
        share(old)
        release(old)
        release(old)
        held[place] = new[0]
    taken = time.perf_counter() - start
    assert pool.held == len(held)
    return len(places) * 4 / taken


def main(operations: int) -> None:
    for blocks in (10**3, 10**4, 10**5, 10**6):
        speed = statistics.median(measure(blocks, operations) for _ in range(REPEATS))
        print(f"{blocks:>9,} blocks: {speed:>11,.0f} operations a second (median of {REPEATS})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
