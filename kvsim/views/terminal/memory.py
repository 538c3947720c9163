"""What `kvsim memory` counts, told: the formula in numbers, a table, JSON."""

import json
from typing import Any

from kvsim import __version__
from kvsim.costs.bytes.memory import GROUP, RESIDUAL, SCALE_BYTES, Held, Memory, Rows
from kvsim.costs.bytes.parameters import BYTES
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.table import Column, make_table, render
from kvsim.views.terminal.text import in_units, number

GIB, GB = 2**30, 10**9


def to_dict(memory: Memory) -> dict[str, Any]:
    """Everything counted, as `kvsim.memory/1`: exact integers."""
    p = memory.parameters
    return {
        "schema": "kvsim.memory/1",
        "kvsim": __version__,
        "model": memory.model,
        "max_context": memory.config.max_context,
        "dtype": memory.dtype,
        "cache_dtype": memory.cache_dtype,
        "batch": memory.batch,
        "block": memory.block,
        "source": memory.source,
        "parameters": {
            "total": p.total,
            "active": p.active,
            "without_embeddings": p.without_embeddings,
            "active_without_embeddings": p.active_without_embeddings,
            "groups": p.groups,
        },
        "weight_bytes": memory.weight_bytes,
        "token_bytes": {"first": memory.row_bytes, "beyond_windows": memory.far_bytes},
        "rows": [
            {
                "layers": rows.layers, "heads": rows.shape.n_heads, "d_key": rows.shape.d_key,
                "d_value": rows.shape.d_value, "window": rows.window, "cross": rows.cross,
                "bytes": rows.numbers * memory.kept.item,
            }
            for rows in memory.rows
        ],
        "contexts": [_held(held, memory) for held in memory.contexts],
    }  # fmt: skip


def _held(held: Held, memory: Memory) -> dict[str, Any]:
    quantised = None if held.quantised is None else held.quantised._asdict()
    return {
        "context": held.context, "beyond_model": held.context > memory.config.max_context, "logical": held.logical,
        "paged": held.paged, "reserved": held.reserved, "everywhere": held.everywhere, "cross": held.cross,
        "quantised": quantised,
    }  # fmt: skip


def to_json(memory: Memory) -> str:
    return json.dumps(to_dict(memory), ensure_ascii=False, allow_nan=False)


def byte_line(count: int) -> str:
    """Exactly, in GiB and in GB."""
    return f"{number(count)} B = {in_units(count, GIB)} GiB = {in_units(count, GB)} GB"


# The formula


def _length(rows: Rows, say: Say) -> str:
    """How many rows a layer holds."""
    if rows.cross:
        return say("source")
    if rows.window is None:
        return say("context")
    return say("min(context, {most})").format(most=number(rows.window - 1))


def row_factors(rows: Rows, memory: Memory, say: Say) -> str:
    """The numbers of one row of these layers, as a product: "32 layers × 8 KV heads × head size 128"."""
    heads, key, value = rows.shape
    if memory.config.latent is not None and heads == 1:
        return say("{layers} layers × (latent {key} + rotary {value})").format(layers=rows.layers, key=key, value=value)
    if key != value:
        return say("{layers} layers × {heads} KV heads × ({key} + {value})").format(
            layers=rows.layers, heads=heads, key=key, value=value
        )
    return say("{layers} layers × {heads} KV heads × head size {size}").format(
        layers=rows.layers, heads=heads, size=key
    )


def _pairs(rows: Rows) -> str:
    """2, for keys and values of one size."""
    alike = rows.shape.d_key == rows.shape.d_value
    return "2 × " if alike else ""


def tell_formula(memory: Memory, say: Say) -> list[str]:
    """One line for layers that are alike."""
    lines = []
    for rows in memory.rows:
        name = say("cross-attention: ") if rows.cross else ""
        if rows.window is not None:
            name = say("window of {window}: ").format(window=number(rows.window))
        if memory.kept.bits is not None and not name:
            lines += tell_quantised(rows, memory, say)
            continue
        factors = row_factors(rows, memory, say)
        length, item = _length(rows, say), memory.kept.item
        each = number(memory.batch * rows.numbers * item)
        batch = say("batch {batch}").format(batch=memory.batch)
        lines.append(f"  {name}{_pairs(rows)}{batch} × {length} × {factors} × {item} B = {each} B × {length}")
    return lines


def tell_quantised(rows: Rows, memory: Memory, say: Say) -> list[str]:
    """Payload, scales, zero points and residual of quantised layers."""
    heads, key, value = rows.shape
    factors, kept = row_factors(rows, memory, say), memory.kept
    batch = say("batch {batch}").format(batch=memory.batch)
    context = say("context")
    head = say("{layers} layers × {heads} KV heads").format(layers=rows.layers, heads=heads)
    per_row = value // min(GROUP, value)
    zeros = say("  zero points: as many bytes as the scales") if kept.zero else say("  zero points: none")
    return [
        f"  q = {GROUP} × floor(({context} - {RESIDUAL}) / {GROUP}), " + say("at least 0"),
        "  " + say("payload: ") + f"{_pairs(rows)}{batch} × q × {factors} × {kept.bits} / 8 B",
        "  " + say("scales of keys: ") + f"{batch} × q / {GROUP} × {head} × {key} × {SCALE_BYTES} B",
        "  " + say("scales of values: ") + f"{batch} × q × {head} × {per_row} × {SCALE_BYTES} B",
        zeros,
        "  " + say("residual: ") + f"{_pairs(rows)}{batch} × ({context} - q) × {factors} × {kept.item} B",
    ]


# The tables


def tell_weights(memory: Memory, say: Say, ascii_only: bool, color: bool) -> str:
    """Parameters and bytes by what they are for."""
    names = {
        "embeddings": say("embeddings"), "attention": say("attention"), "feed_forward": say("feed-forward"),
        "experts": say("experts"), "norms": say("norms"), "head": say("head"),
    }  # fmt: skip
    p, item = memory.parameters, BYTES[memory.dtype]
    columns: list[Column] = [
        (say("weights"), say("total"), "left"),
        (say("parameters"), number(p.total), "right"),
        ("B", number(memory.weight_bytes), "right"),
        ("GiB", in_units(memory.weight_bytes, GIB), "right"),
        ("GB", in_units(memory.weight_bytes, GB), "right"),
    ]
    table = make_table(columns, ascii_only)
    for group, count in p.groups.items():
        if count:
            size = count * item
            table.add_row(names[group], number(count), number(size), in_units(size, GIB), in_units(size, GB))
    return render(table, color)


def _parts(held: Held, memory: Memory, say: Say) -> list[tuple[str, int]]:
    """The lines of one context."""
    quantised, block = held.quantised, memory.block
    if quantised is not None:
        parts = [
            (say("payload"), quantised.payload),
            (say("scales"), quantised.scales),
            (say("zero points"), quantised.zero_points),
            (say("residual"), quantised.residual),
            (say("layers not quantised"), quantised.others),
        ]
        return [(name, size) for name, size in parts if size] + [(say("logical, all of it"), held.logical)]
    told = [
        (say("logical"), held.logical),
        (say("paged, blocks of {block}").format(block=block), held.paged),
        (say("reserved"), held.reserved),
        (say("full context in every layer"), held.everywhere),
    ]
    return [(name, size) for name, size in told if size is not None]


def tell_contexts(memory: Memory, say: Say, ascii_only: bool, color: bool) -> str:
    """Bytes at each context."""
    names = (say("context"), say("KV cache"), "B", "GiB", "GB")
    columns: list[Column] = [(name, "", "left" if i == 1 else "right") for i, name in enumerate(names)]
    table = make_table(columns, ascii_only, footer=False)
    for held in memory.contexts:
        parts = _parts(held, memory, say)
        for i, (name, size) in enumerate(parts):
            context = number(held.context) if i == 0 else ""
            table.add_row(
                context, name, number(size), in_units(size, GIB), in_units(size, GB), end_section=i == len(parts) - 1
            )
    return render(table, color)


def tell_facts(memory: Memory, say: Say, source: str | None) -> list[str]:
    """What the numbers were made of."""
    c = memory.config
    windows = sorted({rows.window for rows in memory.rows if rows.window is not None})
    facts = {
        say("family"): c.family,
        say("layers"): c.n_layers,
        say("width"): c.d_model,
        say("heads"): c.n_heads,
        say("KV heads"): c.n_kv_heads,
        say("head size"): c.d_head,
        say("windows"): ", ".join(map(str, windows)) or "-",
        say("vocabulary"): c.vocab_size,
        say("context of the model"): c.max_context,
        say("source of these facts"): source or "-",
    }
    return [f"  {name}: {value}" for name, value in facts.items()]


def tell_memory(
    memory: Memory, say: Say, ascii_only: bool = False, color: bool = False, facts: str | None = None,
    verbose: bool = False,
) -> str:  # fmt: skip
    """The whole answer of `kvsim memory`; `facts`: where those of the model come from, told with `verbose`."""
    say = plain(say) if ascii_only else say
    p = memory.parameters
    lines = [say("model {model}, weights in {dtype}").format(model=memory.model, dtype=memory.dtype)]
    if verbose:
        lines += tell_facts(memory, say, facts)
    lines.append(tell_weights(memory, say, ascii_only, color))
    without = say("parameters without embeddings and head: {count}").format(count=number(p.without_embeddings))
    lines.append(without)
    if p.idle:
        lines.append(
            say("active for a token: {active}, without embeddings and head {without}").format(
                active=number(p.active), without=number(p.active_without_embeddings)
            )
        )
    lines += ["", say("KV cache in {dtype}:").format(dtype=memory.cache_dtype)]
    lines += tell_formula(memory, say)
    if memory.kept.bits is None:
        token = say("a token: {bytes}").format(bytes=byte_line(memory.row_bytes))
        if memory.far_bytes != memory.row_bytes:
            token = say("the first token: {bytes}; beyond the windows a token more: {far}").format(
                bytes=byte_line(memory.row_bytes), far=byte_line(memory.far_bytes)
            )
        lines.append(token)
    lines.append(tell_contexts(memory, say, ascii_only, color))
    lines += _footnotes(memory, say)
    text = "\n".join(lines)
    return text.replace("×", "x") if ascii_only else text


def _footnotes(memory: Memory, say: Say) -> list[str]:
    """What the lines of the table mean."""
    if memory.kept.bits is not None:
        return [
            say("Scales are float16: of keys one for each channel and 64 rows, of values one for each row and 64"
                " channels; the newest rows, layers with a window and cross-attention stay in {dtype}.").format(
                dtype=memory.dtype
            )
        ]  # fmt: skip
    notes = [
        say("logical: what a lossless cache must hold; paged: that in whole blocks; reserved: whole blocks of what an"
            " engine sets aside.")
    ]  # fmt: skip
    if any(rows.window is not None for rows in memory.rows):
        notes.append(
            say("A layer with a window of W needs its last W - 1 rows; engines set aside W, and some the full context.")
        )
    if memory.source:
        notes.append(
            say("Each includes the {source} rows of the source: {bytes}, made once.").format(
                source=number(memory.source), bytes=byte_line(memory.contexts[0].cross)
            )
        )
    return notes
