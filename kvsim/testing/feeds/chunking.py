"""Feeds: texts cut into chunks, chosen so that the sliding window or the cache policy makes a difference."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kvsim.checks import check_whole
from kvsim.config import Config
from kvsim.errors import UsageError
from kvsim.testing.independent.decoder import read_policy
from kvsim.testing.subject.room import CASES

LONGEST = 64  # tokens of one feed
LONG = 34  # tokens of a random feed, at most
PAST_32 = 35  # tokens of the long feed: past 16 and past 32 rows
CYCLE = (2, 3, 1, 1)
Feed = tuple[int, ...]  # the sizes of the chunks


class Texts(NamedTuple):
    """Which texts are fed besides those that always are: `cases` more at random, and one of at least `length` tokens.
    `seed`: of all texts."""

    cases: int = 0
    seed: int = 0
    length: int = 0


def tokens_needed(config: Config, policy: str) -> int:
    """The number of tokens after which the window, or the policy, makes a difference; at least 4."""
    sizes = [kind.window for kind in config.layers if kind.window is not None]
    try:
        name, options = read_policy(policy)
    except UsageError:  # a policy that the independent decoder does not implement
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


def equal_chunks(total: int, size: int) -> Feed:
    """`total` tokens in chunks of `size`, the last one smaller where `size` does not divide `total`."""
    return (size,) * (total // size) + ((total % size,) if total % size else ())


def cycle_chunks(total: int) -> Feed:
    """`total` tokens in chunks of 2, 3, 1 and 1, again and again: chunks after decode steps and decode steps after
    chunks. Of 35 tokens, one chunk ends with row 16, and one lies across row 32."""
    sizes: list[int] = []
    while (left := total - sum(sizes)) > 0:
        sizes.append(min(CYCLE[len(sizes) % len(CYCLE)], left))
    return tuple(sizes)


def choose_feeds(config: Config, policy: str = "dynamic", cases: int = 0, seed: int = 0, length: int = 0) -> list[Feed]:
    """The feeds of a check, as chunk sizes.

    Chunks of several tokens after others show mistakes in masks and in the order of rows; then the whole text at once,
    token by token, a prompt with a decode step and a second turn, chunks longer than the window after one cached row
    and after as many as it keeps, and a text of more than 32 rows, past which arrays have grown (of `length` rows if
    that is more; none under int8). `cases` more are random, of up to 34 tokens or `length` (fewer under int8). The last
    feed is the first one again, which shows a cache that is not reset.
    UsageError: more than CASES.
    """
    check_whole("cases", cases, 0, CASES)
    n = min(tokens_needed(config, policy), LONGEST - 4, config.max_context - 4)
    windows = {kind.window for kind in config.layers if kind.window is not None}
    part = min(n - 1, (LONGEST - 1) // 2)
    turn = min(n + 2, LONGEST - 3, config.max_context - 3)
    # In a long text some number would always be near a rounding boundary: see kvsim.testing.feeds.boundaries.
    coded = policy.startswith("int8")
    long = max(n + 3, min(max(PAST_32, length), config.max_context))
    chosen = [(part, part, 1), (n + 3,), (1,) * (n + 3)]
    if coded or (long == n + 3 and not windows):
        chosen += [(n, 1, 1, 1), (n + 2, 1, 1), equal_chunks(n + 3, 2), (1, 2), (2, 3, 1)]
    chosen += [(1, 2), (turn, 1, 2)]
    long_chunks = [feed for w in sorted(windows) for feed in ((1, w + 1), (w - 1, w + 2)) if min(feed)]
    chosen += [feed for feed in long_chunks if sum(feed) <= min(LONGEST, config.max_context)]
    chosen += [] if coded else [cycle_chunks(long)]
    generator = np.random.default_rng(seed)
    most = n + 3 if coded else max(n + 3, min(max(LONG, length), config.max_context))
    for _ in range(cases):
        total = int(generator.integers(n + 3, most + 1))
        chosen.append(cut(total, [int(c) for c in generator.integers(0, 2, total - 1)]))
    return [*dict.fromkeys(chosen), chosen[0]]


def tokens_missing(config: Config, policy: str) -> int | None:
    """The number of tokens that a feed would need, if the window or the policy makes no difference in any feed; None if
    it makes one."""
    # int8 is checked by kvsim.testing.feeds.boundaries.
    needed = 0 if policy.startswith("int8") else tokens_needed(config, policy)
    return None if needed < min(LONGEST, config.max_context) else needed + 1


def cut(total: int, bits: list[int]) -> Feed:
    """The chunk sizes of `total` tokens that are cut after token i + 1 where bits[i] is 1."""
    sizes, size = [], 1
    for bit in bits[: total - 1]:
        if bit:
            sizes.append(size)
            size = 0
        size += 1
    return (*sizes, size)


def small_feeds(longest: int) -> Iterator[Feed]:
    """Every way to cut 1, 2 ... `longest` tokens: the shortest text first, then the fewest chunks, then small ones."""
    for total in range(1, longest + 1):
        ways = [cut(total, [code >> i & 1 for i in range(total - 1)]) for code in range(2 ** (total - 1))]
        yield from sorted(ways, key=lambda feed: (len(feed), feed))


def make_text(feed: Feed, number: int, vocab: int, seed: int = 0) -> list[list[int]]:
    """A random text of ids below `vocab`, cut into chunks: another one for each number, the same for the same seed."""
    generator = np.random.default_rng((seed, number))
    ids = [int(i) for i in generator.integers(0, vocab, sum(feed))]
    return split_chunks(ids, feed)


def split_chunks(ids: list[int], feed: Feed) -> list[list[int]]:
    """`ids` cut into chunks of these sizes."""
    starts = np.cumsum((0, *feed))
    return [ids[start : start + size] for start, size in zip(starts, feed, strict=False)]
