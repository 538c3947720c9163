"""The other tables of a trace: shapes of one step, sites of the whole run, cache memory after each step."""

import re
from collections.abc import Iterable

from rich.text import Text

from kvsim.comparisons.cells import find_step
from kvsim.comparisons.trace_record import Trace
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import total
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.table import Column, make_table, render, shown_steps
from kvsim.views.terminal.text import byte_line, number, percent_saved


def _merged(site: str) -> str:
    """The site with the layer's number replaced by *: "layers.*.scores"."""
    return re.sub(r"^layers\.\d+\.", "layers.*.", site)


def _by_site(events: Iterable[MatMul]) -> dict[str, list[MatMul]]:
    """The events of each site, all layers together."""
    groups: dict[str, list[MatMul]] = {}
    for event in events:
        groups.setdefault(_merged(event.site), []).append(event)
    return groups


def format_shapes(
    trace: Trace, say: Say, step_number: int | None = None, ascii_only: bool = False, color: bool = False
) -> str:
    """Every product of one step as "count × [m, k]·[k, n]", without and with a cache. UsageError: no such step."""
    say = plain(say) if ascii_only else say
    times, between = ("x", "*") if ascii_only else ("×", "·")
    step = find_step(trace, step_number)
    columns: list[Column] = [(name, "", "left") for name in (say("site"), say("no cache"), say("cached"))]
    table = make_table(columns, ascii_only, footer=False)
    sides = [_by_site(side.events) for side in (step.no_cache, step.cached)]
    for site in sides[0]:
        row = []
        for side in sides:
            events = side.get(site, [])
            e = events[0]
            count = sum(event.b for event in events)
            row.append(f"{count} {times} [{e.m}, {e.k}]{between}[{e.k}, {e.n}]")
        table.add_row(site, *(Text(cell) for cell in row))
    title = say("step {number}/{last}: every matrix product, [rows, inner]·[inner, columns]").format(
        number=step.number, last=len(trace.steps)
    )
    return title + "\n" + render(table, color)


def format_sites(trace: Trace, say: Say, ascii_only: bool = False, color: bool = False) -> str:
    """The multiply-accumulates of all steps by site, without and with a cache."""
    say = plain(say) if ascii_only else say
    sides = [
        _by_site(event for step in trace.steps for event in step.no_cache.events),
        _by_site(event for step in trace.steps for event in step.cached.events),
    ]
    before, after = trace.totals.no_cache.macs, trace.totals.cached.macs
    columns: list[Column] = [
        (say("site"), say("total"), "left"),
        (say("no cache, MACs"), number(before), "right"),
        (say("cached, MACs"), number(after), "right"),
        (say("saved"), percent_saved(before, after), "right"),
    ]
    table = make_table(columns, ascii_only)
    for site in sides[0]:
        macs = [total(side.get(site, [])).macs for side in sides]
        table.add_row(site, *map(number, macs), percent_saved(*macs))
    title = say("all {n} steps: multiply-accumulates by site").format(n=len(trace.steps))
    return title + "\n" + render(table, color)


def format_memory(trace: Trace, say: Say, rows: int | None = 40, ascii_only: bool = False, color: bool = False) -> str:
    """Bytes that the cache holds after each step, and the closed form of the last one."""
    say = plain(say) if ascii_only else say
    names = (say("step"), say("tokens in the cache"), say("rows held, B"), say("arrays allocated, B"))
    columns: list[Column] = [(name, "", "right") for name in names]
    table = make_table(columns, ascii_only, footer=False)
    head, end = shown_steps(len(trace.steps), rows)
    for i, step in enumerate(trace.steps):
        if i in head or i in end:
            side = step.cached
            table.add_row(*map(number, (step.number, side.kv_tokens, side.kv_bytes, side.allocated_bytes)))
        elif i == head.stop:
            table.add_row("..." if ascii_only else "…")
    model, last = trace.model, trace.steps[-1].cached
    formula = say(
        "2 (K and V) × {layers} layers × {kv_heads} KV heads × d_head {d_head} × {item} B × {tokens} tokens"
    ).format(**model, item=trace.item_bytes, tokens=number(last.kv_tokens))
    product = 2 * model["layers"] * model["kv_heads"] * model["d_head"] * trace.item_bytes * last.kv_tokens
    lines = [say("cache {cache}: bytes after each step").format(cache=trace.cache), render(table, color)]
    lines.append(f"{formula} {'=' if product == last.kv_bytes else '!='} {number(last.kv_bytes)} B")
    lines.append(say("held at the end: {bytes}").format(bytes=byte_line(last.kv_bytes)))
    return "\n".join(lines)
