"""The page of a trace: its numbers as lists over steps, shapes once for layers that are alike, values as codes."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import numpy as np

from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_record import Side, Trace, TraceStep
from kvsim.comparisons.trace_values import PLACES, TraceValues
from kvsim.counting.events import SCORES
from kvsim.views.page.kinds import Told
from kvsim.views.page.results.trace_texts import trace_keys, trace_texts
from kvsim.views.page.still import Names, draw_still, read_names
from kvsim.views.terminal.text import cut, percent_saved
from kvsim.views.terminal.trace_notes import footnotes, headline

RUNS = ("no_cache", "cached")
_LABEL = 12  # terminal cells of a token's text in a cell's heading; all of it stands beside the cell


def tell(trace: Trace) -> Told:
    """The page's data and texts."""
    names = read_names(trace)
    title = cut(names.text, 40)
    return Told(
        data={"title": title, **_data(trace, names)},
        texts=trace_texts,
        keys=trace_keys,
        lines=lambda say: (headline(trace, say), [*footnotes(trace, say, "cells"), *names.reader.notes(say)]),
        title=lambda say: say("KV cache, step by step: {text}").format(text=title),
        still=lambda say: draw_still(trace, names, say),
    )


def _data(trace: Trace, names: Names) -> dict[str, Any]:
    groups = _group_layers(trace)
    return {
        "model": trace.model,
        "item_bytes": trace.item_bytes,
        "prompt": len(trace.prompt),
        "tokens": [cut(label, _LABEL) for label in names.fed],
        "long": {i: label for i, label in enumerate(names.fed) if cut(label, _LABEL) != label},
        "feed": [len(step.fed) for step in trace.steps],
        "next": [cut(label, _LABEL) for label in names.next],
        "counts": {run: _columns(getattr(step, run) for step in trace.steps) for run in RUNS},
        "totals": {run: getattr(trace.totals, run)._asdict() for run in RUNS},
        "saved": _saved(trace),
        "groups": [{"layers": layers, "window": _window(trace, layers[0])} for layers in groups],
        "shapes": {run: [_shapes(trace, run, layers[0]) for layers in groups] for run in RUNS},
        "kinds": {run: _kinds([getattr(step, run) for step in trace.steps]) for run in RUNS},
        "phases": _phases(trace),
        "values": None if trace.values is None else _values(trace, trace.values),
        "left_out": trace.values_left_out or "option",
    }


def _columns(sides: Iterable[Side]) -> dict[str, list[int]]:
    """Every count as a list over steps, and the bytes of the cache."""
    columns: dict[str, list[int]] = {}
    for side in sides:
        row = {**side.counts._asdict(), "kv_bytes": side.kv_bytes, "allocated_bytes": side.allocated_bytes}
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def _saved(trace: Trace) -> list[str]:
    """The part of the score cells that the cache saves: of each step, and last of all steps."""
    pairs = [(step.no_cache.counts, step.cached.counts) for step in trace.steps]
    return [percent_saved(before.score_cells, after.score_cells) for before, after in (*pairs, trace.totals)]


def _window(trace: Trace, layer: int) -> int | None:
    return trace.windows[layer] if trace.windows else None


def _group_layers(trace: Trace) -> list[list[int]]:
    """Layers whose scores have the same shapes and window."""
    groups: dict[Any, list[int]] = {}
    for layer in range(int(trace.model["layers"])):
        groups.setdefault(_window(trace, layer), []).append(layer)
    return list(groups.values())


def _shapes(trace: Trace, run: str, layer: int) -> list[list[int]]:
    """Rows and columns of QKᵀ in one layer, of every step."""
    site = f"layers.{layer}.{SCORES}"
    return [next([e.m, e.n] for e in getattr(step, run).events if e.site == site) for step in trace.steps]


def _kinds(sides: list[Side]) -> dict[str, list[int]]:
    """MACs by kind of product, of every step."""
    found: dict[str, list[int]] = {}
    for i, side in enumerate(sides):
        for event in side.events:
            found.setdefault(event.kind, [0] * len(sides))[i] += event.macs
    return found


def _phases(trace: Trace) -> list[dict[str, Any]]:
    """Sums of the steps that feed the prompt, and of those that feed new tokens. Bytes read from the cache in a step
    are those that it held before."""
    read, before, fed = {}, 0, 0
    phases: dict[str, list[TraceStep]] = {"prefill": [], "decode": []}
    for step in trace.steps:
        fed += len(step.fed)
        phases["prefill" if fed <= len(trace.prompt) else "decode"].append(step)
        read[step.number], before = before, step.cached.kv_bytes
    return [
        {
            "name": name,
            "steps": len(steps),
            "tokens": sum(len(step.fed) for step in steps),
            **{run: {"flops": Counts.sum(getattr(step, run).counts for step in steps).flops} for run in RUNS},
            "saved": percent_saved(*(Counts.sum(getattr(step, run).counts for step in steps).flops for run in RUNS)),
            "kv_read": sum(read[step.number] for step in steps),
        }
        for name, steps in phases.items()
    ]


def _values(trace: Trace, values: TraceValues) -> dict[str, Any]:
    layers = range(int(trace.model["layers"]))
    first = [{place: _first(place, values.first[f"layers.{layer}.{place}"]) for place in PLACES} for layer in layers]
    changes = {}
    for (step, run, name), (at, codes) in values.changes.items():
        _, layer, place = name.split(".")
        pairs = np.stack([np.asarray(at), codes], axis=1)
        changes[f"{step}.{RUNS.index(run)}.{layer}.{PLACES.index(place)}"] = _three_bytes(pairs)
    return {
        "first": first,
        "changes": changes,
        "scale": [facts.scale for facts in trace.attention],
        "plain": [facts.plain for facts in trace.attention],
    }


def _first(place: str, codes: Any) -> dict[str, Any]:
    """The codes of a place; probabilities without those above the diagonal, which are 0."""
    shape = [codes.shape[0], codes.shape[2]]
    if place == "probs":
        codes = codes[:, *np.tril_indices(codes.shape[1])]
    return {"shape": shape, "data": _three_bytes(codes)}


def _three_bytes(numbers: Any) -> str:
    """Numbers below 2^24 as base64 of three bytes each: four characters a number."""
    wide = np.ascontiguousarray(numbers).astype(">u4").view(np.uint8).reshape(-1, 4)
    return b64encode(wide[:, 1:].tobytes()).decode()
