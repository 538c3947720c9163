"""Scopes, ledgers, watchers: the state of each thread that runs a model.

Every product appends an entry (site, shapes, admitted pairs) to the log of its thread; a ledger is a slice of that log.
Only the thread itself writes its ledgers and its scope. Nothing takes a lock, so that an exception between any two
instructions cannot leave one held. A ledger or watcher whose `__exit__` was interrupted is closed when its `with`
object is deleted.
"""

from contextlib import AbstractContextManager
from threading import Thread, current_thread, local
from typing import Any

from kvsim.counting.ledger import Ledger
from kvsim.counting.seen import Seen

Log = list[Any]


class Place:
    """A scope of site names: its prefix, a cache of full names, and the scopes inside. Shared by all threads, which may
    create the same entry twice with equal results."""

    __slots__ = ("children", "prefix", "sites")

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.sites: dict[str, str] = {}  # kind -> full name
        self.children: dict[tuple[object, ...], Place] = {}

    def child(self, names: tuple[object, ...]) -> "Place":
        """The scope inside this one whose prefix is extended by `names`, joined by dots."""
        prefix = self.prefix + "".join(f"{name}." for name in names)
        return self.children.setdefault(names, Place(prefix))


class Record:
    """The state of one thread. `tally`: its log (None while no ledger is open) and the number of products in earlier
    logs, in one tuple so that other threads always read a consistent pair."""

    __slots__ = ("_owner", "ledgers", "place", "tally", "uncounted", "watchers")

    def __init__(self, root: Place, owner: Thread) -> None:
        self.tally: tuple[Log | None, int] = (None, 0)
        self.uncounted = 0  # products run while no ledger of this thread was open
        self._owner = [owner]
        self._reset(root)

    def _reset(self, root: Place) -> None:
        self.place = root
        self.ledgers: tuple[Ledger, ...] = ()
        self.watchers: tuple[Seen, ...] = ()

    def take_over(self, root: Place, thread: Thread) -> bool:
        """Give the record to `thread` and return True, if its owner has ended without an open ledger. Counts
        continue."""
        try:
            owner = self._owner.pop()
        except IndexError:  # another thread is taking it over at this moment
            return False
        ended = not owner.is_alive() and not any(ledger.is_open for ledger in self.ledgers)
        self._owner.append(thread if ended else owner)
        if ended:
            self.drop_closed_ledgers()
            self._reset(root)
        return ended

    def drop_closed_ledgers(self) -> None:
        """Forget ledgers that are closed, and stop logging if none is left."""
        self.ledgers = tuple([ledger for ledger in self.ledgers if ledger.is_open])
        log, earlier = self.tally
        if log is not None and not self.ledgers:
            self.tally = (None, earlier + len(log))

    @property
    def counted(self) -> int:
        """The number of products counted by a ledger of this thread."""
        log, earlier = self.tally
        return earlier if log is None else earlier + len(log)


class Records(local):
    """`here` is the record of the calling thread, `every` lists those of all threads. There are at most as many as
    threads that ever ran at the same time, since a new thread takes over the record of one that has ended."""

    def __init__(self, root: Place, every: list[Record]) -> None:
        me = current_thread()
        self.here = next((record for record in every if record.take_over(root, me)), None) or Record(root, me)
        self.every = every
        if self.here not in every:
            every.append(self.here)


class OtherThreads:
    """Counts products of threads other than that of `own`, from its creation on."""

    __slots__ = ("_before", "_every", "_own")

    def __init__(self, every: list[Record], own: Record) -> None:
        self._every, self._own = every, own
        self._before = self._add_up()

    def _add_up(self) -> tuple[int, int]:
        counted = uncounted = 0
        for record in self._every:  # another thread may append during the loop, which is safe
            if record is not self._own:
                counted += record.counted
                uncounted += record.uncounted
        return counted, uncounted

    def count(self) -> tuple[int, int]:
        """The numbers of products counted by a ledger of their own thread, and counted by none."""
        now, before = self._add_up(), self._before
        return now[0] - before[0], now[1] - before[1]


class Scope:
    """The context manager of `ops.at("layers", 3)`. A class, because a generator is slower and a step enters dozens."""

    __slots__ = ("_before", "_names", "_record")

    def __init__(self, record: Record, names: tuple[object, ...]) -> None:
        self._record, self._names = record, names

    def __enter__(self) -> None:
        before = self._before = self._record.place
        self._record.place = before.children.get(self._names) or before.child(self._names)

    def __exit__(self, *_: object) -> None:
        self._record.place = self._before


class Running:
    """The context manager of `ops.running()`: enters `around`, outside of all scopes. At both ends it leaves those
    that an exception kept from being left, at the beginning because a second exception may have kept the end from it.
    """

    __slots__ = ("_around", "_record", "_root")

    def __init__(self, record: Record, root: Place, around: AbstractContextManager[Any]) -> None:
        self._record, self._root, self._around = record, root, around

    def __enter__(self) -> None:
        self._record.place = self._root
        self._around.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        self._record.place = self._root
        return self._around.__exit__(*error)


def refuse_second_entry(record: object) -> None:
    """RuntimeError: the context of `count()` or `watch()` was entered before, so `record` is not None."""
    if record is not None:
        raise RuntimeError("this context was entered before: call count() or watch() again")


class Counting:
    """The context manager of `ops.count()`, to be entered once. Deleting it closes the ledger if `__exit__` was
    interrupted."""

    _closed = True
    _record: Record | None = None

    def __init__(self, records: Records, warns: bool) -> None:
        self._records, self.ledger = records, Ledger(warns=warns)

    def __enter__(self) -> Ledger:
        refuse_second_entry(self._record)
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
        self.ledger.close()
        here = self._records.here
        if here is self._record:  # else it was closed in another thread, which must not write this record
            here.drop_closed_ledgers()
        self._closed = True

    def __del__(self) -> None:
        if not self._closed:
            self.__exit__()


class Watching:
    """The context manager of `ops.watch()`, to be entered once. Deleting it removes the watcher if `__exit__` was
    interrupted."""

    _closed = True
    _record: Record | None = None

    def __init__(self, records: Records, patterns: tuple[str, ...]) -> None:
        self._records, self.seen = records, Seen(patterns)

    def __enter__(self) -> Seen:
        refuse_second_entry(self._record)
        record = self._record = self._records.here
        self._closed = False
        record.watchers = (*record.watchers, self.seen)
        return self.seen

    def __exit__(self, *_: object) -> None:
        assert self._record is not None
        self._record.watchers = tuple([other for other in self._record.watchers if other is not self.seen])
        self._closed = True

    def __del__(self) -> None:
        if not self._closed:
            self.__exit__()
