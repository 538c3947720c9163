"""The output of `kvsim cost` on a terminal: FLOPs and bytes of prefill and decode, and a device's roofline."""

from collections.abc import Sequence

from kvsim.config import LayerKind
from kvsim.costs.public.devices import Device
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost, Phase, Side
from kvsim.costs.work.roofline import Bound, Limits
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import byte_line, number


def format_heading(found: Cost, say: Say) -> list[str]:
    """The model and the run."""
    count, p = found.count, found.parameters
    lines = [
        say("model {model}: {total} parameters, {rest} without embeddings").format(
            model=count.model, total=number(p.total), rest=number(p.total - p.tables)
        )
    ]
    if p.active != p.total:
        lines.append(
            say("a token goes through {active} of them, {rest} without embeddings").format(
                active=number(p.active), rest=number(p.active - p.tables)
            )
        )
    run = [say("prompt {n}").format(n=number(count.prompt)), say("new tokens {n}").format(n=number(count.new))]
    if count.source:
        run.append(say("source {n}").format(n=number(count.source)))
    run += [say("cache {cache}").format(cache=count.cache), count.dtype]
    if found.config.latent is not None:
        run.append(say("latent attention {form}").format(form=found.config.latent.form))
    return [*lines, say(", ").join(run)]


def explain_conventions(conventions: Sequence[Convention], say: Say) -> list[str]:
    """One line for each convention: what it counts."""
    meanings = {
        "square": say("what full matrices execute, the head on all positions (kvsim.count)"),
        "causal": say("only the pairs that the mask admits, the head on all positions"),
        "last": say("causal, with the head on the last position of a step only"),
    }
    return [f"{convention}{say(': ')}{meanings[convention]}" for convention in conventions]


def phases(side: Side, say: Say) -> list[tuple[str, Phase]]:
    """Names and phases of a run."""
    return [(say("prefill"), side.prefill), (say("decode"), side.decode), (say("all steps"), side.total)]


def sides(found: Cost, say: Say) -> list[tuple[str, Side]]:
    """Names and runs: with a cache and without one, or only the latter if the cache keeps nothing."""
    both = [(say("cached"), found.cached), (say("no cache"), found.uncached)]
    return both if found.cached.traffic.keeps else both[1:]


def flops_sheet(found: Cost, conventions: Sequence[Convention], say: Say) -> Sheet:
    """The table of FLOPs of each phase under each convention, and their ratio without a cache and with one."""
    left = [Column("run", say("FLOPs"), "left"), Column("phase", "", "left"), Column("steps", say("steps"))]
    table = Sheet("cost-flops", [*left, *(Column(c, c) for c in conventions)])
    shown = sides(found, say)
    for name, side in shown:
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            cells = [number(phase.flops(convention)) for convention in conventions]
            table.add("" if i else name, phase_name, number(phase.steps), *cells)
    if len(shown) == 2:
        ratios = [f"{float(found.ratio(convention)):,.1f}" for convention in conventions]
        table.add(say("no cache / cached"), say("all steps"), "", *ratios)
    return table


def bytes_sheet(found: Cost, say: Say) -> Sheet:
    """The table of bytes that each phase moves."""
    columns = [
        Column("run", say("bytes moved"), "left"),
        Column("phase", "", "left"),
        Column("weights", say("weights read")),
        Column("read", say("KV read")),
        Column("written", say("KV written")),
        Column("all", say("total")),
    ]
    table = Sheet("cost-bytes", columns)
    for name, side in sides(found, say):
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            table.add("" if i else name, phase_name, *map(number, (*phase.moved, phase.moved.total)))
    return table


def intensity_sheet(found: Cost, conventions: Sequence[Convention], say: Say) -> Sheet:
    """The table of FLOPs per byte moved."""
    columns = [Column("run", say("FLOPs per byte"), "left"), Column("phase", "", "left")]
    table = Sheet("cost-intensity", [*columns, *(Column(c, c) for c in conventions)])
    for name, side in sides(found, say):
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            ratios = [phase.intensity(convention) for convention in conventions]
            table.add("" if i else name, phase_name, *("-" if x is None else f"{float(x):,.2f}" for x in ratios))
    return table


def sites_sheet(found: Cost, convention: Convention, say: Say) -> Sheet:
    """The table of FLOPs by site, all layers together, of the run with the cache."""
    prefill, decode, total = (p.flops_by("place", convention) for _, p in phases(found.cached, say))
    whole = sum(total.values())
    names = [name for name, _ in phases(found.cached, say)]
    columns = [Column(key, name) for key, name in zip(("prefill", "decode", "all"), names, strict=True)]
    table = Sheet("cost-sites", [Column("site", say("site"), "left"), *columns, Column("share", say("share"))])
    for site, flops in total.items():
        cells = (number(part.get(site, 0)) for part in (prefill, decode))
        table.add(site, *cells, number(flops), f"{100 * flops / whole:.2f}%")
    return table


def name_kind(found: Cost, kind: LayerKind, say: Say) -> str:
    """A kind of layer in words, with the number of its layers."""
    same = found.count.forms.kinds.layers_of(kind)
    attends = say("full attention")
    if kind.window is not None:
        attends = say("window {window}").format(window=number(kind.window))
    feeds = say("dense")
    if kind.experts is not None:
        feeds = say("{chosen} of {count} experts").format(chosen=kind.experts.chosen, count=kind.experts.count)
    return say("{n} layers: {attends}, {feeds}").format(n=len(same), attends=attends, feeds=feeds)


def format_kinds(found: Cost, convention: Convention, say: Say) -> list[str]:
    """Lines of FLOPs: by kind of layer if there are several, through every expert, and without the head."""
    prefill, decode = found.cached.prefill, found.cached.decode
    lines = []
    if found.count.forms.kinds.config.n_layers > 1:
        kinds = prefill.flops_by_layer_kind(convention), decode.flops_by_layer_kind(convention)
        lines.append(say("FLOPs by kind of layer, {convention} (prefill; decode):").format(convention=convention))
        lines += [
            f"  {name_kind(found, kind, say)}{say(': ')}{number(flops)}{say('; ')}{number(kinds[1].get(kind, 0))}"
            for kind, flops in kinds[0].items()
        ]
    if found.cached.reads.routed:
        line = say("through every expert, {convention}: prefill {prefill} FLOPs, decode {decode}")
        pair = [number(phase.flops_of_all_experts(convention)) for phase in (prefill, decode)]
        lines.append(line.format(convention=convention, prefill=pair[0], decode=pair[1]))
        lines.append(
            say(
                "experts' weights: for a step of several tokens an upper bound (each token may choose other experts),"
                " which its roofline uses"
            )
        )
    line = say("without the head, {convention}: prefill {prefill} FLOPs, decode {decode}")
    pair = [number(phase.flops_without_head(convention)) for phase in (prefill, decode)]
    return [*lines, line.format(convention=convention, prefill=pair[0], decode=pair[1])]


def format_crossover(found: Cost, conventions: Sequence[Convention], say: Say) -> str:
    """The context from which attention costs at least as much as products with weights."""

    def tokens(value: int | None) -> str:
        return say("never") if value is None else number(value)

    prefills = say(", ").join(f"{tokens(found.crossover.prefill[c])} ({c})" for c in conventions)
    return say(
        "attention overtakes all products with weights: decode at context {decode}; prefill of {prefill}"
    ).format(decode=tokens(found.crossover.decode), prefill=prefills)


def _bound_by(bound: Bound, say: Say) -> str:
    """What limits the steps: compute, memory, or each in some."""
    if not bound.steps:
        return "-"
    if not bound.memory_bound:
        return say("compute")
    if not bound.compute_bound:
        return say("memory")
    return say("compute in {compute} steps, memory in {memory}").format(
        compute=number(bound.compute_bound), memory=number(bound.memory_bound)
    )


def roofline_parts(
    found: Cost, conventions: Sequence[Convention], device: Device, limits: Limits, say: Say
) -> list[Part]:
    """The table of lower bounds on time on a device: the first token, and the later ones."""
    heading = say(
        "{device}, roofline (a bound, not a forecast): {peak} TFLOP/s in {dtype}, {bandwidth} GB/s, ridge point {ridge}"
        " FLOPs/B, overhead {overhead} s a step"
    ).format(
        device=device.name,
        peak=f"{limits.peak / 1e12:g}",
        dtype=found.count.dtype,
        bandwidth=f"{limits.bandwidth / 1e9:g}",
        ridge=f"{float(limits.ridge):.2f}",
        overhead=f"{float(limits.overhead):g}",
    )
    columns = [
        Column("run", say("roofline"), "left"),
        Column("convention", "", "left"),
        Column("prefill", say("first token, ms")),
        Column("prefill_bound", say("bound by"), "left", bend="wrap"),
        Column("decode", say("each later token, ms")),
        Column("decode_bound", say("bound by"), "left", bend="wrap"),
        Column("total", say("total, s")),
    ]
    table = Sheet("cost-roofline", columns)
    for name, side in sides(found, say):
        for i, convention in enumerate(conventions):
            prefill, decode = side.bounds(limits, convention)
            each = "-" if decode.each is None else f"{1000 * float(decode.each):,.3f}"
            table.add(
                "" if i else name, convention,
                f"{1000 * float(prefill.seconds):,.3f}", _bound_by(prefill, say),
                each, _bound_by(decode, say),
                f"{float(prefill.seconds + decode.seconds):,.3f}",
            )  # fmt: skip
    parts: list[Part] = [heading, table]
    if len(sides(found, say)) == 2:
        parts.append(say("A cache does nothing for the first token: its rows are only written."))
    return parts


def cost_parts(
    found: Cost, conventions: Sequence[Convention], device: Device | None, limits: Limits | None, say: Say
) -> list[Part]:
    """Tables and lines of a cost. Those for a single convention use the last of `conventions`."""
    parts: list[Part] = [
        *format_heading(found, say),
        *explain_conventions(conventions, say),
        flops_sheet(found, conventions, say),
        bytes_sheet(found, say),
        intensity_sheet(found, conventions, say),
        say("KV cache after the last step: {bytes}").format(bytes=byte_line(found.count.kv_bytes)),
        say("FLOPs by site, {convention}:").format(convention=conventions[-1]),
        sites_sheet(found, conventions[-1], say),
        *format_kinds(found, conventions[-1], say),
        format_crossover(found, conventions, say),
    ]
    if device is not None and limits is not None:
        parts += roofline_parts(found, conventions, device, limits, say)
    return parts


def format_cost(
    found: Cost, conventions: Sequence[Convention], device: Device | None, limits: Limits | None, say: Say,
    screen: Screen = ANYWHERE,
) -> str:  # fmt: skip
    """The whole output of `kvsim cost`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(cost_parts(found, conventions, device, limits, say), say, screen)
