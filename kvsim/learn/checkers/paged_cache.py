"""13: a paged cache over a memory that is kept on this side, so that every block taken, written, read and given back is
known, and who holds it."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.caches.paged.table import blocks_for
from kvsim.learn.answers import Answer
from kvsim.learn.checkers.paged_memory import ONE_TABLE, Memory, Wrong
from kvsim.learn.checking import Given
from kvsim.learn.subject import Functions, Thing
from kvsim.testing.subject.calls import Problem, ShapeError, UnreadableError, to_host
from kvsim.testing.verdict.error import OracleError

CACHE, SIZE, WIDTH = "PagedCache", 3, 4
STALE_TAIL, SORTED = "paged_stale_tail", "blocks_sorted"
BLOCK, LIMIT, LENGTHS = 16, 512, 3  # of the prediction


class Do(NamedTuple):
    """One call: append `n` rows to the sequence `name`, fork it as `new`, or free it; then read `seen`."""

    call: str
    name: str
    n: int = 0
    new: str = ""
    seen: str = ""


SCRIPT = (
    Do("append", "A", 4, seen="A"),  # a whole block and a part of the next
    Do("append", "B", 2, seen="AB"),
    Do("append", "A", 1, seen="A"),  # into the last block
    Do("append", "A", 3, seen="AB"),  # over its end
    Do("append", "B", 5, seen="AB"),
    Do("fork", "A", new="C", seen="AC"),
    Do("append", "C", 1, seen="AC"),  # into a block that A has, too
    Do("append", "A", 2, seen="ABC"),  # into that block, which A has alone now
    Do("free", "A", seen="BC"),  # C still has two of its blocks
    Do("append", "D", 5, seen="BCD"),  # in blocks that A had
    Do("fork", "D", new="E", seen="DE"),
    Do("free", "D", seen="E"),
    Do("append", "E", 2, seen="CE"),  # into a block that E has alone now
    Do("free", "C", seen="BE"),
    Do("free", "B", seen="E"),
    Do("free", "E"),
)


def lengths(seed: int) -> list[int]:
    """Tokens of the sequences of the prediction: each a few more than whole blocks."""
    generator = np.random.default_rng(seed)
    wholes = generator.choice(np.arange(2, LIMIT // BLOCK - 1), LENGTHS, replace=False)
    return [int(BLOCK * whole + more) for whole, more in zip(wholes, generator.integers(2, 6, LENGTHS), strict=True)]


def facts(seed: int) -> dict[str, Any]:
    """The sequences of the prediction."""
    return {"lengths": ", ".join(map(str, lengths(seed))), "limit": LIMIT, "block": BLOCK}


def answers(seed: int) -> dict[str, Answer]:
    """Rows reserved for these sequences at their longest, and in blocks."""
    all = lengths(seed)
    reserved, paged = LIMIT * len(all), BLOCK * sum(blocks_for(n, BLOCK) for n in all)
    used = {"only_rows_in_use": sum(all)}
    return {
        "rows_reserved": Answer(reserved, used | {"one_sequence": LIMIT}),
        "rows_in_blocks": Answer(paged, used | {
            "blocks_rounded_down": BLOCK * sum(n // BLOCK for n in all),
            "last_block_shared": BLOCK * blocks_for(sum(all), BLOCK),
            "blocks_not_rows": paged // BLOCK,
        }),
    }  # fmt: skip


def check(given: Given) -> None:
    """OracleError: rows come back wrong, or blocks are not held as they must be."""
    Run(given).go()


class Run:
    """The script, its memory, and the rows [S, D] that each sequence must hold."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.memory = Memory(SIZE, WIDTH, given.seed)
        self.generator = np.random.default_rng((given.seed, 13))
        self.rows: dict[str, Any] = {}

    def go(self) -> None:
        """OracleError, at the first thing that is wrong."""
        m = self.memory
        functions = Functions(take=m.take, give_back=m.give_back, write=m.write, read=m.read)
        made = self.given.subject.call(CACHE, functions, SIZE)
        if not isinstance(made, Thing):
            raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=CACHE,
                                  got=type(made).__name__)  # fmt: skip
        for one in SCRIPT:
            self.do(made, one)
            for name in one.seen:
                self.read(made, name)

    def do(self, cache: Thing, one: Do) -> None:
        """Make one call of the script, and look at what it did to the blocks."""
        m = self.memory
        old = self.rows.get(one.name, np.zeros((0, WIDTH)))
        if one.call == "append":
            new = self.generator.standard_normal((one.n, WIDTH)).astype(self.given.subject.dtype)
            self.rows[one.name] = np.concatenate([old, new])
            m.begin("append", one.name, self.rows[one.name], len(old))
            self.call(cache, "append", one.name, new)
            m.end_append()
        elif one.call == "fork":
            self.rows[one.new] = old
            m.begin("fork", one.name, old, len(old))
            self.call(cache, "fork", one.name, one.new)
            m.end_fork(one.new)
        else:
            m.begin("free", one.name, old, len(old))
            self.call(cache, "free", one.name)
            m.end_free()
            del self.rows[one.name]
        self.stop(m.wrong)

    def call(self, cache: Thing, name: str, *args: Any) -> Any:
        """The result. OracleError: blocks are used wrongly in the call. UnreadableError: it raises."""
        try:
            result = cache.call(name, *args)
        except UnreadableError:
            self.stop(self.memory.wrong)
            raise
        self.stop(self.memory.wrong)
        return result

    def stop(self, wrong: Wrong | None) -> None:
        if wrong is not None:
            raise self.given.fail(wrong.problem, *([wrong.id] if wrong.id else []))

    def read(self, cache: Thing, name: str) -> None:
        """OracleError: the rows of a sequence are others than were appended."""
        rows, m = self.rows[name], self.memory
        m.begin("read", name, rows, len(rows))
        got = self.call(cache, "read", name)
        try:
            found = to_host(np.asarray(got) if isinstance(got, list) else got)[0]
        except (TypeError, ValueError) as error:
            raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name="read",
                                  got=type(got).__name__) from error  # fmt: skip
        if found.ndim != 2 or found.shape[1] != WIDTH:
            raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}", name="read",
                             got=list(found.shape), axes="tokens, d", expected=list(rows.shape))  # fmt: skip
        if found.shape != rows.shape:
            raise self.other_count(name, len(found))
        if not np.array_equal(found, rows):
            raise self.other_rows(name, found)

    def other_count(self, name: str, got: int) -> OracleError:
        """The error of a sequence that comes back with more rows than it has, or fewer."""
        count = len(self.rows[name])
        values = {"name": name, "got": got, "expected": count, "size": SIZE}
        problem = Problem("sequence {name}: read gave {got} rows, {expected} were appended", values)
        if got == len(self.rows.get(self.memory.forked.get(name, ""), ())):
            return self.given.fail(problem, ONE_TABLE)
        whole = blocks_for(count, SIZE) * SIZE
        return self.given.fail(problem, *([STALE_TAIL] if got == whole else []))

    def other_rows(self, name: str, found: Any) -> OracleError:
        """The error of a sequence whose rows are others, with the first of them and what it is."""
        rows, m = self.rows[name], self.memory
        first = int(np.argwhere((found != rows).any(axis=1))[0][0])
        values = {"name": name, "row": first, "block": first // SIZE, "slot": first % SIZE}
        if np.array_equal(found, m.rows_of(sorted(m.table(name)), len(rows))):
            return self.given.fail(Problem("sequence {name}: row {row} is wrong; the blocks were read in the order of"
                                           " their numbers", values), SORTED)  # fmt: skip
        for other, theirs in self.rows.items():
            same = np.flatnonzero((theirs == found[first]).all(axis=1))
            if len(same):
                values |= {"other": other, "place": int(same[0])}
                return self.given.fail(Problem("sequence {name}: row {row} came back as row {place} of sequence"
                                               " {other}", values))  # fmt: skip
        return self.given.fail(Problem("sequence {name}: row {row} (block {block} of its table, slot {slot}) came back"
                                       " as another one", values))  # fmt: skip
