"""A trace as trace events ("Trace Event Format", the JSON that Chrome, Perfetto and others open).

Names are English in every language, since queries (SQL in Perfetto) use them. What readers are known to need is kept:
`traceEvents` is the first entry, no event holds a list, no text a control character, and times are whole nanoseconds
that stay whole when they are read, so that slices which follow one another never overlap.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.costs.work.slices import Timed, TimedStep
from kvsim.schemas import dump, stamp
from kvsim.text import one_line

Event = dict[str, Any]
# Perfetto lists processes by their names.
PROCESSES = ((1, "no cache"), (2, "with cache {cache}"))
OUTSIDE = 10  # the thread of what is outside all layers, layer 0 is the next; 1 and 2 would be "main threads"
_LONGEST_TEXT = 60  # characters of the tokens that a step feeds
BYTES = "of each slice's factors and product, each once, in the run's dtype; kernels that fuse slices move fewer"


class Timeline(NamedTuple):
    """When a trace's slices ran, by one clock for all of them."""

    clock: str  # "measured" or "model:DEVICE"
    facts: dict[str, Any]  # of the clock: what it is, the device's peak and bandwidth
    no_cache: Sequence[TimedStep]
    cached: Sequence[TimedStep]

    @property
    def size(self) -> int:
        """The number of slices, without those of whole steps."""
        return sum(len(step.slices) for steps in (self.no_cache, self.cached) for step in steps)


def to_lines(trace: Trace, timeline: Timeline) -> Iterator[str]:
    """The file, one event a line."""
    separator = '{"traceEvents": [\n'
    for event in list_events(trace, timeline):
        yield separator + dump(event)
        separator = ",\n"
    other = {
        "clock": timeline.clock,
        **timeline.facts,
        "bytes": BYTES,
        "model": one_line(str(trace.model["name"])),
        "cache": trace.cache,
        "feed": trace.feed,
        "backend": trace.backend,
        "dtype": trace.dtype,
    }
    last = dump(stamp("perfetto")).removeprefix("{")
    yield f'\n], "otherData": {dump(other)},\n{last}\n'


def list_events(trace: Trace, timeline: Timeline) -> Iterator[Event]:
    """Names, then for each process its steps, slices and counters, in the order of their times."""
    for (pid, name), steps in zip(PROCESSES, (timeline.no_cache, timeline.cached), strict=True):
        yield from _name(pid, name.format(cache=trace.cache), int(trace.model["layers"]))
        for step, timed in zip(trace.steps, steps, strict=True):
            side = step.no_cache if pid == 1 else step.cached
            yield from _list_step(pid, step, side, timed, timeline.clock)


def _name(pid: int, name: str, layers: int) -> Iterator[Event]:
    """The names of a process and of its threads, and their order."""
    yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
    yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
    for number, thread in enumerate(["outside the layers", *(f"layer {layer}" for layer in range(layers))]):
        about = {"ph": "M", "pid": pid, "tid": OUTSIDE + number}
        yield {**about, "name": "thread_name", "args": {"name": thread}}
        yield {**about, "name": "thread_sort_index", "args": {"sort_index": number}}


def _list_step(pid: int, step: TraceStep, side: Side, timed: TimedStep, clock: str) -> Iterator[Event]:
    """A step's slice, its parts, and the counters: score cells while it runs, the cache's bytes from its end."""
    token = one_line("".join(piece.text for piece in step.fed), _LONGEST_TEXT)
    about = {"step": step.number, "token": token, "clock": clock}
    counts = {"next": one_line(step.next.text, _LONGEST_TEXT), "kv_tokens": side.kv_tokens}
    span = (timed.start, timed.stop)
    yield _counter(pid, "score_cells", timed.start, side.counts.score_cells)
    yield _slice(pid, OUTSIDE, f"step {step.number}", "step", span, {**about, **counts})
    for one in timed.slices:
        layer = one.slice.layer
        tid = OUTSIDE if layer is None else OUTSIDE + 1 + layer
        yield _slice(pid, tid, one.slice.name, "work", (one.start, one.stop), {**_show(one), **about})
    yield _counter(pid, "kv_bytes", timed.stop, side.kv_bytes)


def _show(one: Timed) -> Event:
    """What a click on a slice shows."""
    shown = {
        "shape": one.slice.shape,
        "macs": one.slice.macs,
        "bytes": one.slice.moved,
        "seconds": float(one.seconds),
    }
    return shown if one.bound is None else {**shown, "bound": one.bound}


def _slice(pid: int, tid: int, name: str, kind: str, span: tuple[int, int], args: Event) -> Event:
    start, stop = span
    times = {"ts": _microseconds(start), "dur": _microseconds(stop - start)}
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "cat": kind, **times, "args": args}


def _counter(pid: int, name: str, when: int, value: int) -> Event:
    return {"ph": "C", "pid": pid, "name": name, "ts": _microseconds(when), "args": {"value": value}}


def _microseconds(nanoseconds: int) -> float:
    """The format's unit. A reader that keeps nanoseconds cuts 1000 times this number down to a whole one: the number
    is such that it gets back the one that was written."""
    found = nanoseconds / 1000
    return found if int(found * 1000) == nanoseconds else math.nextafter(found, math.inf)
