"""Speed of BlockPool's bookkeeping: allocations, shares and releases per second, for a thousand to a million blocks.
Each call handles one block and is one operation; the order of blocks is drawn beforehand.

    python examples/bench/pool.py [OPERATIONS]
"""

import random
import statistics
import sys
import time

from kvsim.caches.paged.blocks import BlockPool

REPEATS = 5


def fill(blocks: int, generator: random.Random) -> tuple[BlockPool, list[int]]:
    """A pool with a random half of its blocks in use, and these blocks."""
    pool = BlockPool(blocks, 16)
    used = pool.allocate(blocks)
    generator.shuffle(used)
    pool.release(used[blocks // 2 :])
    return pool, used[: blocks // 2]


def measure(blocks: int, operations: int) -> float:
    """Operations per second, in rounds of four: one allocation, one share and two releases."""
    generator = random.Random(0)
    pool, used = fill(blocks, generator)
    places = [generator.randrange(len(used)) for _ in range(operations // 4)]
    allocate, share, release = pool.allocate, pool.share, pool.release
    start = time.perf_counter()
    for place in places:
        old = (used[place],)
        new = allocate()
        share(old)
        release(old)
        release(old)
        used[place] = new[0]
    taken = time.perf_counter() - start
    assert pool.held == len(used)
    return len(places) * 4 / taken


def main(operations: int) -> None:
    for blocks in (10**3, 10**4, 10**5, 10**6):
        speed = statistics.median(measure(blocks, operations) for _ in range(REPEATS))
        print(f"{blocks:>9,} blocks: {speed:>11,.0f} operations a second (median of {REPEATS})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
