"""The output of `kvsim memory` on a terminal: the formula in numbers, and tables."""

from kvsim.costs.bytes.memory import SCALE_BYTES, Held, Memory, Rows
from kvsim.costs.bytes.parameters import BYTES
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import in_units, number

GIB, GB = 2**30, 10**9


def exact_bytes(count: int) -> str:
    """`count` exactly, in GiB and in GB."""
    return f"{number(count)} B = {in_units(count, GIB)} GiB = {in_units(count, GB)} GB"


# The formula


def _length(rows: Rows, say: Say) -> str:
    """The number of rows of a layer, as a term of the formula."""
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
    """The factor 2 for keys and values of one size."""
    return "2 × " if rows.shape.d_key == rows.shape.d_value else ""


def format_formula(memory: Memory, say: Say) -> list[str]:
    """One line for each group of layers with the same rows."""
    lines = []
    for rows in memory.rows:
        name = say("cross-attention: ") if rows.cross else ""
        if rows.window is not None:
            name = say("window of {window}: ").format(window=number(rows.window))
        if memory.kept.bits is not None and not name:
            lines += format_quantised(rows, memory, say)
            continue
        factors = row_factors(rows, memory, say)
        length, item = _length(rows, say), memory.kept.item
        each = number(memory.batch * rows.numbers * item)
        batch = say("batch {batch}").format(batch=memory.batch)
        lines.append(f"  {name}{_pairs(rows)}{batch} × {length} × {factors} × {item} B = {each} B × {length}")
    return lines


def format_quantised(rows: Rows, memory: Memory, say: Say) -> list[str]:
    """Lines for payload, scales, zero points and residual of quantised layers."""
    heads, key, value = rows.shape
    factors, kept = row_factors(rows, memory, say), memory.kept
    group, residual = kept.options.group, kept.options.residual
    batch = say("batch {batch}").format(batch=memory.batch)
    context = say("context")
    head = say("{layers} layers × {heads} KV heads").format(layers=rows.layers, heads=heads)
    per_row = value // kept.options.channels(value)
    zeros = say("  zero points: as many bytes as the scales") if kept.zero else say("  zero points: none")
    return [
        f"  q = {group} × floor(({context} - {residual}) / {group})" + say(", ") + say("at least 0"),
        "  " + say("payload: ") + f"{_pairs(rows)}{batch} × q × {factors} × {kept.bits} / 8 B",
        "  " + say("scales of keys: ") + f"{batch} × q / {group} × {head} × {key} × {SCALE_BYTES} B",
        "  " + say("scales of values: ") + f"{batch} × q × {head} × {per_row} × {SCALE_BYTES} B",
        zeros,
        "  " + say("residual: ") + f"{_pairs(rows)}{batch} × ({context} - q) × {factors} × {kept.item} B",
    ]


# The tables


def weights_sheet(memory: Memory, say: Say) -> Sheet:
    """The table of parameters and bytes by group."""
    names = {
        "embeddings": say("embeddings"), "attention": say("attention"), "feed_forward": say("feed-forward"),
        "experts": say("experts"), "norms": say("norms"), "head": say("head"),
    }  # fmt: skip
    p, item = memory.parameters, BYTES[memory.dtype]
    columns = [
        Column("weights", say("weights"), "left", say("total")),
        Column("parameters", say("parameters"), total=number(p.total)),
        Column("bytes", "B", total=number(memory.weight_bytes)),
        Column("gib", "GiB", total=in_units(memory.weight_bytes, GIB)),
        Column("gb", "GB", total=in_units(memory.weight_bytes, GB)),
    ]
    table = Sheet("memory-weights", columns, totals=True)
    for group, count in p.groups.items():
        if count:
            size = count * item
            table.add(names[group], number(count), number(size), in_units(size, GIB), in_units(size, GB))
    return table


def _parts(held: Held, memory: Memory, say: Say) -> list[tuple[str, int]]:
    """Names and bytes in the table's lines for one context."""
    quantised, block = held.quantised, memory.block
    if quantised is not None:
        parts = [
            (say("payload"), quantised.payload),
            (say("scales"), quantised.scales),
            (say("zero points"), quantised.zero_points),
            (say("residual"), quantised.residual),
            (say("layers not quantised"), quantised.others),
        ]
        return [(name, size) for name, size in parts if size] + [(say("logical, total"), held.logical)]
    sizes = [
        (say("logical"), held.logical),
        (say("paged, blocks of {block}").format(block=block), held.paged),
        (say("reserved"), held.reserved),
        (say("full context in every layer"), held.everywhere),
    ]
    return [(name, size) for name, size in sizes if size is not None]


def contexts_sheet(memory: Memory, say: Say) -> Sheet:
    """The table of bytes at each context."""
    columns = [
        Column("context", say("context")),
        Column("part", say("KV cache"), "left", bend="wrap"),
        Column("bytes", "B"),
        Column("gib", "GiB"),
        Column("gb", "GB"),
    ]
    rows: list[list[str]] = []
    sections = set()
    for held in memory.contexts:
        for i, (name, size) in enumerate(_parts(held, memory, say)):
            context = number(held.context) if i == 0 else ""
            rows.append([context, name, number(size), in_units(size, GIB), in_units(size, GB)])
        sections.add(len(rows) - 1)
    return Sheet("memory-contexts", columns, rows, sections=frozenset(sections))


def format_facts(memory: Memory, say: Say, source: str | None) -> list[str]:
    """The fields of the model that the numbers follow from."""
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
        say("source of these fields"): source or "-",
    }
    return [f"  {name}{say(': ')}{value}" for name, value in facts.items()]


def memory_parts(memory: Memory, say: Say, facts: str | None = None, verbose: bool = False) -> list[Part]:
    """Weights, the formula, the cache at each context, definitions; with `verbose` the model's fields and their source,
    `facts`."""
    p = memory.parameters
    lines: list[Part] = [say("model {model}, weights in {dtype}").format(model=memory.model, dtype=memory.dtype)]
    if verbose:
        lines += format_facts(memory, say, facts)
    lines.append(weights_sheet(memory, say))
    lines.append(say("parameters without embeddings and head: {count}").format(count=number(p.without_embeddings)))
    if p.idle:
        lines.append(
            say("active per token: {active}, without embeddings and head {without}").format(
                active=number(p.active), without=number(p.active_without_embeddings)
            )
        )
    lines += ["", say("KV cache in {dtype}:").format(dtype=memory.cache_dtype)]
    lines += format_formula(memory, say)
    if memory.kept.bits is None:
        lines.append(_token_line(memory, say))
    return [*lines, contexts_sheet(memory, say), *_footnotes(memory, say)]


def format_memory(
    memory: Memory, say: Say, screen: Screen = ANYWHERE, facts: str | None = None, verbose: bool = False
) -> str:
    """The whole output of `kvsim memory`."""
    say = plain(say) if screen.ascii_only else say
    text = lay_out(memory_parts(memory, say, facts, verbose), say, screen)
    return text.replace("×", "x") if screen.ascii_only else text


def _token_line(memory: Memory, say: Say) -> str:
    """Bytes of one token, in a cache that is not quantised."""
    if memory.far_bytes == memory.row_bytes:
        return say("a token: {bytes}").format(bytes=exact_bytes(memory.row_bytes))
    return say("the first token: {bytes}; each token beyond the windows: {far}").format(
        bytes=exact_bytes(memory.row_bytes), far=exact_bytes(memory.far_bytes)
    )


def _footnotes(memory: Memory, say: Say) -> list[str]:
    """Definitions of the terms in the table."""
    if memory.kept.bits is not None:
        return [
            say("Scales are float16: for keys one per channel and 64 rows, for values one per row and 64 channels; the"
                " newest rows, layers with a window and cross-attention stay in {dtype}.").format(
                dtype=memory.dtype
            )
        ]  # fmt: skip
    notes = [
        say("logical: what a lossless cache must hold; paged: the same in whole blocks; reserved: whole blocks of what"
            " an engine reserves.")
    ]  # fmt: skip
    if any(rows.window is not None for rows in memory.rows):
        notes.append(
            say("A layer with a window of W needs its last W - 1 rows; engines reserve W, some the full context.")
        )
    if memory.source:
        notes.append(
            say("Each includes the {source} rows of the source: {bytes}, computed once.").format(
                source=number(memory.source), bytes=exact_bytes(memory.contexts[0].cross)
            )
        )
    return notes
