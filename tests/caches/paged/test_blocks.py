"""Block numbers against a pool of dicts and lists that recounts everything at every step."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvsim.caches.paged.blocks import BlockPool, prefix_key
from kvsim.errors import UsageError


def test_numbers_go_up_by_one():
    pool = BlockPool(None, 16)
    assert pool.allocate(3) == [0, 1, 2]
    assert pool.allocate() == [3]
    assert (pool.made, pool.held, pool.free, pool.kept) == (4, 4, None, 0)


def test_what_is_given_back_comes_in_the_same_order():
    pool = BlockPool(8, 4)
    blocks = pool.allocate(6)
    pool.release(blocks[2:])
    assert pool.allocate() == [2]
    assert pool.allocate(3) == [3, 4, 5]
    pool.release([1])
    assert pool.allocate(2) == [1, 6]
    pool.release([2, 5])
    pool.release([4])
    assert pool.allocate(3) == [2, 4, 5], "going up, whatever the order they came back in"


def test_a_full_pool_says_what_was_asked():
    pool = BlockPool(4, 16)
    pool.allocate(3)
    with pytest.raises(UsageError) as caught:
        pool.allocate(2)
    assert str(caught.value) == (
        "asked for 2 more blocks of 16 tokens: of 4 in the pool 3 are in use and 1 free;"
        " clear a cache, or make a larger pool"
    )
    assert (pool.held, pool.free) == (3, 1)
    assert pool.allocate() == [3]
    with pytest.raises(UsageError, match="4 are in use and 0 free"):
        pool.allocate()


def test_a_block_is_free_when_its_last_holder_gives_it_back():
    pool = BlockPool(2, 16)
    blocks = pool.allocate(2)
    pool.share(blocks)
    assert [pool.references(b) for b in blocks] == [2, 2]
    pool.release(blocks)
    assert (pool.held, pool.free) == (2, 0)
    pool.release([1])
    assert (pool.held, pool.free) == (1, 1)
    with pytest.raises(UsageError, match="block 1 is already free"):
        pool.release([1])
    with pytest.raises(UsageError, match="block 1 is free and cannot be shared"):
        pool.share([1])
    assert pool.allocate() == [1]


def test_a_free_block_can_be_found_until_it_is_given_out():
    pool = BlockPool(3, 2)
    keys = [prefix_key(b"", [1, 2])]
    keys.append(prefix_key(keys[0], [3, 4]))
    blocks = pool.allocate(2)
    for block, key in zip(blocks, keys, strict=True):
        pool.register(block, key)
    pool.release(blocks)
    assert (pool.held, pool.free, pool.kept) == (0, 3, 2)
    assert [pool.find(key) for key in keys] == [0, 1]
    assert pool.allocate() == [2], "first the one that is not cached"
    assert pool.allocate() == [1], "then the end of the prefix"
    assert [pool.find(key) for key in keys] == [0, None]
    pool.share([0])
    assert (pool.held, pool.kept, pool.references(0)) == (3, 0, 1)
    pool.forget(0)
    assert pool.find(keys[0]) is None


def test_every_block_of_a_prefix_is_cached():
    pool = BlockPool(None, 2)
    key, other = prefix_key(b"", [1, 2]), prefix_key(b"", [2, 1])
    pool.allocate(3)
    for block in range(3):
        pool.register(block, key)
    pool.register(0, other)
    assert (pool.find(key), pool.find(other)) == (0, None), "a block ends one prefix"
    pool.release([2])
    assert (pool.find(key), pool.kept) == (0, 1)
    pool.forget(0)
    assert (pool.find(key), pool.kept) == (1, 1)
    pool.forget(1)
    assert (pool.find(key), pool.kept) == (2, 1)
    pool.share([2])
    pool.forget(2)
    assert (pool.find(key), pool.kept) == (None, 0)


@settings(max_examples=200)
@example(one=[[-1, 0]], other=[[-2, 0]])
@given(
    one=st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), max_size=3),
    other=st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), max_size=3),
)
def test_a_key_tells_all_prefixes_apart(one, other):
    """-1 and -2 have one `hash` in Python."""

    def key(blocks):
        made = b""
        for ids in blocks:
            made = prefix_key(made, ids)
        return made

    assert hash((b"", (-1, 0))) == hash((b"", (-2, 0)))
    assert (key(one) == key(other)) == (one == other)


SIZE = 2
PREFIXES = [prefix_key(b"", [i, i]) for i in range(4)]


class Pools(RuleBasedStateMachine):
    """The pool and its model: references and prefix of each block, and the free blocks in order of release."""

    @initialize(blocks=st.one_of(st.none(), st.integers(1, 7)))
    def start(self, blocks):
        self.pool, self.blocks = BlockPool(blocks, SIZE), blocks
        self.holders: dict[int, int] = {}
        self.key_of: dict[int, bytes] = {}
        self.came_back: list[int] = []  # free blocks, the last one last
        self.made = 0

    def free(self):
        return None if self.blocks is None else self.blocks - len(self.holders)

    @rule(count=st.integers(0, 4))
    def allocate(self, count):
        if self.blocks is not None and count > self.free():
            with pytest.raises(UsageError, match=f"{len(self.holders)} are in use and {self.free()} free"):
                self.pool.allocate(count)
            return
        wanted = []
        for _ in range(count):
            unknown = [b for b in self.came_back if b not in self.key_of]
            if unknown:
                block = unknown[-1]
            elif self.blocks is None or self.made < self.blocks:
                block, self.made = self.made, self.made + 1
            else:
                block = self.came_back[0]
                del self.key_of[block]
            if block in self.came_back:
                self.came_back.remove(block)
            self.holders[block] = 1
            wanted.append(block)
        assert self.pool.allocate(count) == sorted(wanted)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def share(self, data):
        for block in data.draw(st.lists(st.sampled_from(sorted(self.holders)), min_size=1, max_size=3)):
            self.pool.share([block])
            self.holders[block] += 1

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def release(self, data):
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.holders)), min_size=1, unique=True))
        self.pool.release(chosen)
        for block in reversed(chosen):
            self.holders[block] -= 1
            if not self.holders[block]:
                del self.holders[block]
                self.came_back.append(block)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), key=st.sampled_from(PREFIXES))
    def register(self, data, key):
        block = data.draw(st.sampled_from(sorted(self.holders)))
        self.pool.register(block, key)
        self.key_of.setdefault(block, key)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def forget(self, data):
        block = data.draw(st.sampled_from(sorted(self.holders)))
        self.pool.forget(block)
        self.key_of.pop(block, None)

    @rule(key=st.sampled_from(PREFIXES))
    def take_back(self, key):
        block = self.pool.find(key)
        if block is not None and block not in self.holders:
            self.pool.share([block])
            self.came_back.remove(block)
            self.holders[block] = 1

    @precondition(lambda self: any(b not in self.key_of for b in self.came_back))
    @rule(data=st.data())
    def misuse(self, data):
        block = data.draw(st.sampled_from([b for b in self.came_back if b not in self.key_of]))
        with pytest.raises(UsageError, match=f"block {block} is free"):
            self.pool.share([block])
        with pytest.raises(UsageError, match=f"block {block} is already free"):
            self.pool.release([block])

    @invariant()
    def agrees(self):
        assert self.pool.made == self.made
        assert self.pool.held == len(self.holders)
        assert self.pool.free == self.free()
        assert self.pool.kept == sum(block in self.key_of for block in self.came_back)
        assert [self.pool.references(b) for b in range(self.made)] == [self.holders.get(b, 0) for b in range(self.made)]
        block_of = {key: block for block, key in reversed(self.key_of.items())}  # the first one cached
        assert [self.pool.find(key) for key in PREFIXES] == [block_of.get(key) for key in PREFIXES]


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
