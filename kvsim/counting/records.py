"""What belongs to one thread that runs a model: its open ledgers, its watchers and its place in the model.

A product notes itself in the log of its thread: site, shapes, admitted pairs. A ledger is a part of that log. Only its
own thread writes a record, and nothing here takes a lock: an exception between any two instructions leaves nothing
locked, and a ledger or watcher that it leaves open is closed when the object of its `with` statement is deleted.
"""

from contextlib import AbstractContextManager
from threading import Thread, current_thread, local
from typing import Any

from kvsim.counting.ledger import Ledger
from kvsim.counting.seen import Seen

Log = list[Any]


class Place:
    """A scope of site names: what they begin with, those made so far, and the scopes within. Shared by all threads;
    whoever makes an entry twice makes the same one."""

    __slots__ = ("children", "prefix", "sites")

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.sites: dict[str, str] = {}  # kind -> full name
        self.children: dict[tuple[object, ...], Place] = {}

    def child(self, names: tuple[object, ...]) -> "Place":
        """The scope whose names begin with this prefix and `names`, joined by dots."""
        prefix = self.prefix + "".join(f"{name}." for name in names)
        return self.children.setdefault(names, Place(prefix))


class Record:
    """One thread's state. `tally`: its log (None while no ledger is open), and how many products went into earlier
    logs; one tuple, so that other threads never read half of a change."""

    __slots__ = ("_owner", "ledgers", "place", "tally", "uncounted", "watchers")

    def __init__(self, root: Place, owner: Thread) -> None:
        self.tally: tuple[Log | None, int] = (None, 0)
        self.uncounted = 0  # products that ran while no ledger of this thread was open
        self._owner = [owner]
        self._reset(root)

    def _reset(self, root: Place) -> None:
        self.place = root
        self.ledgers: tuple[Ledger, ...] = ()
        self.watchers: tuple[Seen, ...] = ()

    def take_over(self, root: Place, thread: Thread) -> bool:
        """True, and the record is `thread`'s, if its thread has ended and left no ledger open. Its counts go on."""
        try:
            owner = self._owner.pop()
        except IndexError:  # another thread is asking right now
            return False
        ended = not owner.is_alive() and not self.ledgers
        self._owner.append(thread if ended else owner)
        if ended:
            self._reset(root)
        return ended

    @property
    def counted(self) -> int:
        """Products that went into a ledger of this thread."""
        log, earlier = self.tally
        return earlier if log is None else earlier + len(log)


class Records(local):
    """`here` is the record of the thread that asks. `every`: those of all threads; as many as ever ran at once, since
    a new thread takes over the record of one that has ended."""

    def __init__(self, root: Place, every: list[Record]) -> None:
        me = current_thread()
        self.here = next((record for record in every if record.take_over(root, me)), None) or Record(root, me)
        self.every = every
        if self.here not in every:
            every.append(self.here)


class OtherThreads:
    """Products of threads other than that of `own`, since this was made."""

    __slots__ = ("_before", "_every", "_own")

    def __init__(self, every: list[Record], own: Record) -> None:
        self._every, self._own = every, own
        self._before = self._add_up()

    def _add_up(self) -> tuple[int, int]:
        counted = uncounted = 0
        for record in self._every:  # appending to a list that is walked is safe
            if record is not self._own:
                counted += record.counted
                uncounted += record.uncounted
        return counted, uncounted

    def count(self) -> tuple[int, int]:
        """How many ledgers there counted, and how many none did."""
        now, before = self._add_up(), self._before
        return now[0] - before[0], now[1] - before[1]


class Scope:
    """`with ops.at("layers", 3):`, without a generator: a step enters dozens."""

    __slots__ = ("_before", "_names", "_record")

    def __init__(self, record: Record, names: tuple[object, ...]) -> None:
        self._record, self._names = record, names

    def __enter__(self) -> None:
        before = self._before = self._record.place
        self._record.place = before.children.get(self._names) or before.child(self._names)

    def __exit__(self, *_: object) -> None:
        self._record.place = self._before


class Running:
    """`with ops.running():` what is entered `around` a computation, and at its end the scope that it began in, also
    where an exception kept a scope within it from ending."""

    __slots__ = ("_around", "_place", "_record")

    def __init__(self, record: Record, around: AbstractContextManager[Any]) -> None:
        self._record, self._around = record, around

    def __enter__(self) -> None:
        self._place = self._record.place
        self._around.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        self._record.place = self._place
        return self._around.__exit__(*error)


class Counting:
    """`with ops.count() as ledger:`. Also closed when an exception kept `__exit__` from running."""

    _closed = True

    def __init__(self, records: Records, warns: bool) -> None:
        self._records, self.ledger = records, Ledger(warns=warns)

    def __enter__(self) -> Ledger:
        record = self._record = self._records.here
        self._closed = False
        log, earlier = record.tally
        if log is None:
            log = []
            record.tally = (log, earlier)
        self.ledger.open(log, OtherThreads(self._records.every, record))
        record.ledgers = (*record.ledgers, self.ledger)
        return self.ledger

    def __exit__(self, *_: object) -> None:
        record = self._record
        self.ledger.close()
        left = record.ledgers = tuple([other for other in record.ledgers if other is not self.ledger])
        log, earlier = record.tally
        if log is not None and not left:
            record.tally = (None, earlier + len(log))
        self._closed = True

    def __del__(self) -> None:
        if not self._closed:
            self.__exit__()


class Watching:
    """`with ops.watch(pattern) as seen:`. Also closed when an exception kept `__exit__` from running."""

    _closed = True

    def __init__(self, records: Records, patterns: tuple[str, ...]) -> None:
        self._records, self.seen = records, Seen(patterns)

    def __enter__(self) -> Seen:
        self._record = self._records.here
        self._closed = False
        self._record.watchers = (*self._record.watchers, self.seen)
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._record.watchers = tuple([other for other in self._record.watchers if other is not self.seen])
        self._closed = True

    def __del__(self) -> None:
        if not self._closed:
            self.__exit__()
