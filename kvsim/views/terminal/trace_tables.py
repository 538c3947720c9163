"""The other tables of a trace: shapes of one step, sites of the whole run, cache memory after each step."""

import re
from collections.abc import Iterable

from kvsim.comparisons.cells import find_step
from kvsim.comparisons.trace_record import Trace
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import total
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out, shown_steps
from kvsim.views.terminal.text import byte_line, number, percent_saved


def merge_layers(site: str) -> str:
    """The site with the layer's number replaced by *: "layers.*.scores"."""
    return re.sub(r"^layers\.\d+\.", "layers.*.", site)


def _by_site(events: Iterable[MatMul]) -> dict[str, list[MatMul]]:
    """The events of each site, all layers together."""
    groups: dict[str, list[MatMul]] = {}
    for event in events:
        groups.setdefault(merge_layers(event.site), []).append(event)
    return groups


def shapes_parts(trace: Trace, say: Say, step_number: int | None = None, ascii_only: bool = False) -> list[Part]:
    """Every product of one step as "count × [m, k]·[k, n]", without and with a cache. UsageError: no such step."""
    times, between = ("x", "*") if ascii_only else ("×", "·")
    step = find_step(trace, step_number)
    names = {"site": say("site"), "no_cache": say("no cache"), "cached": say("cached")}
    table = Sheet("trace-shapes", [Column(key, name, "left") for key, name in names.items()], in_json=False)
    sides = [_by_site(side.events) for side in (step.no_cache, step.cached)]
    for site in sides[0]:
        row = []
        for side in sides:
            events = side.get(site, [])
            e = events[0]
            count = sum(event.b for event in events)
            row.append(f"{count} {times} [{e.m}, {e.k}]{between}[{e.k}, {e.n}]")
        table.add(site, *row)
    title = say("step {number}/{last}: every matrix product, [rows, inner]·[inner, columns]").format(
        number=step.number, last=len(trace.steps)
    )
    return [title, table]


def sites_parts(trace: Trace, say: Say) -> list[Part]:
    """The multiply-accumulates of all steps by site, without and with a cache."""
    sides = [
        _by_site(event for step in trace.steps for event in step.no_cache.events),
        _by_site(event for step in trace.steps for event in step.cached.events),
    ]
    before, after = trace.totals.no_cache.macs, trace.totals.cached.macs
    columns = [
        Column("site", say("site"), "left", say("total")),
        Column("no_cache", say("no cache, MACs"), total=number(before)),
        Column("cached", say("cached, MACs"), total=number(after)),
        Column("saved", say("saved"), total=percent_saved(before, after)),
    ]
    table = Sheet("trace-sites", columns, totals=True, in_json=False)
    for site in sides[0]:
        macs = [total(side.get(site, [])).macs for side in sides]
        table.add(site, *map(number, macs), percent_saved(*macs))
    return [say("all {n} steps: multiply-accumulates by site").format(n=len(trace.steps)), table]


def memory_parts(trace: Trace, say: Say, rows: int | None = 40, ascii_only: bool = False) -> list[Part]:
    """Bytes that the cache holds after each step, and the closed form of the last one."""
    names = {
        "step": say("step"), "tokens": say("tokens in the cache"), "held": say("rows held, B"),
        "allocated": say("arrays allocated, B"),
    }  # fmt: skip
    table = Sheet("trace-memory", [Column(key, name) for key, name in names.items()])
    head, end = shown_steps(len(trace.steps), rows)
    for i, step in enumerate(trace.steps):
        if i in head or i in end:
            side = step.cached
            table.add(*map(number, (step.number, side.kv_tokens, side.kv_bytes, side.allocated_bytes)))
        elif i == head.stop:
            table.add("..." if ascii_only else "…")
    model, last = trace.model, trace.steps[-1].cached
    formula = say(
        "2 (K and V) × {layers} layers × {kv_heads} KV heads × d_head {d_head} × {item} B × {tokens} tokens"
    ).format(**model, item=trace.item_bytes, tokens=number(last.kv_tokens))
    product = 2 * model["layers"] * model["kv_heads"] * model["d_head"] * trace.item_bytes * last.kv_tokens
    return [
        say("cache {cache}: bytes after each step").format(cache=trace.cache),
        table,
        f"{formula} {'=' if product == last.kv_bytes else '!='} {number(last.kv_bytes)} B",
        say("held at the end: {bytes}").format(bytes=byte_line(last.kv_bytes)),
    ]


def format_shapes(trace: Trace, say: Say, step_number: int | None = None, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim trace --show shapes`. UsageError: no such step."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(shapes_parts(trace, say, step_number, screen.ascii_only), say, screen)


def format_sites(trace: Trace, say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim trace --show sites`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(sites_parts(trace, say), say, screen)


def format_memory(trace: Trace, say: Say, rows: int | None = 40, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim trace --show memory`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(memory_parts(trace, say, rows, screen.ascii_only), say, screen)
