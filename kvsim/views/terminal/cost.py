"""The output of `kvsim cost` on a terminal: FLOPs and bytes of prefill and decode, and a device's roofline."""

from collections.abc import Sequence

from kvsim.config import LayerKind
from kvsim.costs.public.devices import Device
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost, Phase, Side
from kvsim.costs.work.roofline import Bound, Limits
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.table import Column, make_table, render
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


def format_flops(found: Cost, conventions: Sequence[Convention], say: Say, ascii_only: bool, color: bool) -> str:
    """The table of FLOPs of each phase under each convention, and their ratio without a cache and with one."""
    left: list[Column] = [(say("FLOPs"), "", "left"), ("", "", "left"), (say("steps"), "", "right")]
    table = make_table([*left, *((c, "", "right") for c in conventions)], ascii_only, footer=False)
    shown = sides(found, say)
    for name, side in shown:
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            cells = [number(phase.flops(convention)) for convention in conventions]
            table.add_row("" if i else name, phase_name, number(phase.steps), *cells)
    if len(shown) == 2:
        ratios = [f"{float(found.ratio(convention)):,.1f}" for convention in conventions]
        table.add_row(say("no cache / cached"), say("all steps"), "", *ratios)
    return render(table, color)


def format_bytes(found: Cost, say: Say, ascii_only: bool, color: bool) -> str:
    """The table of bytes that each phase moves."""
    names = [say("weights read"), say("KV read"), say("KV written"), say("total")]
    columns: list[Column] = [(say("bytes moved"), "", "left"), ("", "", "left")]
    table = make_table([*columns, *((name, "", "right") for name in names)], ascii_only, footer=False)
    for name, side in sides(found, say):
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            table.add_row("" if i else name, phase_name, *map(number, (*phase.moved, phase.moved.total)))
    return render(table, color)


def format_intensity(found: Cost, conventions: Sequence[Convention], say: Say, ascii_only: bool, color: bool) -> str:
    """The table of FLOPs per byte moved."""
    columns: list[Column] = [(say("FLOPs per byte"), "", "left"), ("", "", "left")]
    table = make_table([*columns, *((c, "", "right") for c in conventions)], ascii_only, footer=False)
    for name, side in sides(found, say):
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            ratios = [phase.intensity(convention) for convention in conventions]
            table.add_row("" if i else name, phase_name, *("-" if x is None else f"{float(x):,.2f}" for x in ratios))
    return render(table, color)


def format_sites(found: Cost, convention: Convention, say: Say, ascii_only: bool, color: bool) -> str:
    """The table of FLOPs by site, all layers together, of the run with the cache."""
    prefill, decode, total = (p.flops_by("place", convention) for _, p in phases(found.cached, say))
    whole = sum(total.values())
    columns: list[Column] = [(say("site"), "", "left")]
    columns += [(name, "", "right") for name, _ in phases(found.cached, say)]
    table = make_table([*columns, (say("share"), "", "right")], ascii_only, footer=False)
    for site, flops in total.items():
        cells = (number(part.get(site, 0)) for part in (prefill, decode))
        table.add_row(site, *cells, number(flops), f"{100 * flops / whole:.2f}%")
    return say("FLOPs by site, {convention}:").format(convention=convention) + "\n" + render(table, color)


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


def format_roofline(
    found: Cost, conventions: Sequence[Convention], device: Device, limits: Limits, say: Say,
    ascii_only: bool, color: bool,
) -> str:  # fmt: skip
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
    columns: list[Column] = [(say("roofline"), "", "left"), ("", "", "left")]
    for name in (say("first token, ms"), say("each later token, ms"), say("total, s")):
        columns += [(name, "", "right"), (say("bound by"), "", "left")]
    table = make_table(columns[:-1], ascii_only, footer=False)
    for name, side in sides(found, say):
        for i, convention in enumerate(conventions):
            prefill, decode = side.bounds(limits, convention)
            each = "-" if decode.each is None else f"{1000 * float(decode.each):,.3f}"
            table.add_row(
                "" if i else name, convention,
                f"{1000 * float(prefill.seconds):,.3f}", _bound_by(prefill, say),
                each, _bound_by(decode, say),
                f"{float(prefill.seconds + decode.seconds):,.3f}",
            )  # fmt: skip
    lines = [heading, render(table, color)]
    if len(sides(found, say)) == 2:
        lines.append(say("A cache does nothing for the first token: its rows are only written."))
    return "\n".join(lines)


def format_cost(
    found: Cost, conventions: Sequence[Convention], device: Device | None, limits: Limits | None, say: Say,
    ascii_only: bool = False, color: bool = False,
) -> str:  # fmt: skip
    """The whole output of `kvsim cost`. Parts for a single convention use the last of `conventions`."""
    say = plain(say) if ascii_only else say
    parts = [
        *format_heading(found, say),
        *explain_conventions(conventions, say),
        format_flops(found, conventions, say, ascii_only, color),
        format_bytes(found, say, ascii_only, color),
        format_intensity(found, conventions, say, ascii_only, color),
        say("KV cache after the last step: {bytes}").format(bytes=byte_line(found.count.kv_bytes)),
        format_sites(found, conventions[-1], say, ascii_only, color),
        *format_kinds(found, conventions[-1], say),
        format_crossover(found, conventions, say),
    ]
    if device is not None and limits is not None:
        parts.append(format_roofline(found, conventions, device, limits, say, ascii_only, color))
    return "\n".join(parts)
