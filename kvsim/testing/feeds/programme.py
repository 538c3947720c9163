"""What is fed to a decoder under test: texts cut into chunks, chosen for the window or the cache's policy."""

from collections.abc import Iterator

import numpy as np

from kvsim.config import Config
from kvsim.errors import UsageError
from kvsim.testing.independent.decoder import read_policy

LONGEST = 64  # tokens of one feed
LONG = 34  # of one that is drawn
Feed = tuple[int, ...]  # sizes of its chunks


def reach(config: Config, policy: str) -> int:
    """How many tokens a text must have before the window, or the policy, shows."""
    sizes = [kind.window for kind in config.layers if kind.window is not None]
    try:
        name, options = read_policy(policy)
    except UsageError:  # one that the independent decoder does not have
        name, options = "", None
    if name == "window":
        sizes.append(options)
    elif name == "sinks":
        sizes.append(sum(options))
    elif name == "paged":
        sizes.append(2 * options)
    elif name == "int8":
        sizes.append(2 * options[0] + options[1])
    return max([4, *sizes])


def pieces(total: int, size: int) -> Feed:
    """`total` tokens in chunks of `size` and what is left."""
    return (size,) * (total // size) + ((total % size,) if total % size else ())


def feeds(config: Config, policy: str = "dynamic", cases: int = 0, seed: int = 0) -> list[Feed]:
    """Chunks of several tokens after others (masks and orders show there), the whole text at once, token by token, a
    prompt and its decode steps; `cases` more at random, of up to 34 tokens (where rows are moved to a larger array, or
    positions end, shows there), but under int8; the first once more (a cache that is not reset shows)."""
    n = min(reach(config, policy), LONGEST - 4, config.max_context - 4)
    windows = [kind.window for kind in config.layers if kind.window is not None]
    twice = 2 * max(windows, default=0) + 1  # tells a window that is far too long from none
    part = min(n - 1, (LONGEST - 1) // 2)
    chosen = [
        (part, part, 1),
        (n + 3,),
        (1,) * (n + 3),
        (n, 1, 1, 1),
        (n + 2, 1, 1),
        pieces(n + 3, 2),
        (1, 2),
        (2, 3, 1),
    ]
    if windows and twice + 4 <= min(LONGEST, config.max_context):
        chosen.append((twice, 1, 1, 1, 1))
    generator = np.random.default_rng(seed)
    # Of a long text some number would always stand near a rounding boundary (kvsim.testing.feeds.boundaries).
    most = n + 3 if policy.startswith("int8") else max(n + 3, min(LONG, config.max_context))
    for _ in range(cases):
        total = int(generator.integers(n + 3, most + 1))
        chosen.append(cut(total, [int(c) for c in generator.integers(0, 2, total - 1)]))
    return [*dict.fromkeys(chosen), chosen[0]]


def unseen(config: Config, policy: str) -> int | None:
    """How many tokens a feed would have to have, where the window or the policy shows in none; None where it does."""
    needed = 0 if policy.startswith("int8") else reach(config, policy)  # int8: kvsim.testing.feeds.boundaries refuses
    return None if needed < min(LONGEST, config.max_context) else needed + 1


def cut(total: int, bits: list[int]) -> Feed:
    """A text cut after token i + 1 where bits[i] is 1."""
    sizes, size = [], 1
    for bit in bits[: total - 1]:
        if bit:
            sizes.append(size)
            size = 0
        size += 1
    return (*sizes, size)


def small_feeds(longest: int) -> Iterator[Feed]:
    """Every way to cut 1, 2, ... tokens: the shortest text first, then the fewest chunks, then small ones first."""
    for total in range(1, longest + 1):
        ways = [cut(total, [code >> i & 1 for i in range(total - 1)]) for code in range(2 ** (total - 1))]
        yield from sorted(ways, key=lambda feed: (len(feed), feed))


def text_of(feed: Feed, number: int, vocab: int, seed: int = 0) -> list[list[int]]:
    """The chunks of feed `number`: another text for each number, the same for the same seed."""
    generator = np.random.default_rng((seed, number))
    ids = [int(i) for i in generator.integers(0, vocab, sum(feed))]
    return chunks(ids, feed)


def chunks(ids: list[int], feed: Feed) -> list[list[int]]:
    starts = np.cumsum((0, *feed))
    return [ids[start : start + size] for start, size in zip(starts, feed, strict=False)]
