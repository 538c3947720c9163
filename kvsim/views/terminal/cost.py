"""What `kvsim cost` found, told: FLOPs and bytes of prefill and decode, and a device's roofline."""

from collections.abc import Sequence

from kvsim.config import LayerKind
from kvsim.costs.public.devices import Device
from kvsim.costs.work.conventions import Convention
from kvsim.costs.work.cost import Cost, Phase, Side
from kvsim.costs.work.roofline import Bound, Limits
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.table import Column, make_table, render
from kvsim.views.terminal.text import byte_line, number


def tell_heading(found: Cost, say: Say) -> list[str]:
    """The model and what is asked of it."""
    count, p = found.count, found.parameters
    lines = [
        say("model {model}: {total} parameters, {rest} without embeddings").format(
            model=count.model, total=number(p.total), rest=number(p.total - p.embeddings)
        )
    ]
    if p.active != p.total:
        lines.append(
            say("a token goes through {active} of them, {rest} without embeddings").format(
                active=number(p.active), rest=number(p.active - p.embeddings)
            )
        )
    asked = [say("prompt {n}").format(n=number(count.prompt)), say("new tokens {n}").format(n=number(count.new))]
    if count.source:
        asked.append(say("source {n}").format(n=number(count.source)))
    asked += [say("cache {cache}").format(cache=count.cache), count.dtype]
    if found.config.latent is not None:
        asked.append(say("latent attention {form}").format(form=found.config.latent.form))
    return [*lines, ", ".join(asked)]


def explain_conventions(conventions: Sequence[Convention], say: Say) -> list[str]:
    """What each counts."""
    meanings = {
        "square": say("what full matrices execute, the head on all positions (kvsim.count)"),
        "causal": say("only the pairs that the mask admits, the head on all positions"),
        "last": say("causal, with the head on the last position of a step only"),
    }
    return [f"{convention}: {meanings[convention]}" for convention in conventions]


def phases(side: Side, say: Say) -> list[tuple[str, Phase]]:
    return [(say("prefill"), side.prefill), (say("decode"), side.decode), (say("all steps"), side.total)]


def sides(found: Cost, say: Say) -> list[tuple[str, Side]]:
    """The run with a cache and the one without; one, where both are the same."""
    both = [(say("cached"), found.cached), (say("no cache"), found.uncached)]
    return both if found.cached.traffic.keeps else both[1:]


def tell_flops(found: Cost, conventions: Sequence[Convention], say: Say, ascii_only: bool, color: bool) -> str:
    """FLOPs of each phase under each convention, and how many times as many there are without a cache."""
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


def tell_bytes(found: Cost, say: Say, ascii_only: bool, color: bool) -> str:
    """Bytes that each phase moves at least."""
    names = [say("weights read"), say("KV read"), say("KV written"), say("together")]
    columns: list[Column] = [(say("bytes moved"), "", "left"), ("", "", "left")]
    table = make_table([*columns, *((name, "", "right") for name in names)], ascii_only, footer=False)
    for name, side in sides(found, say):
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            table.add_row("" if i else name, phase_name, *map(number, (*phase.moved, phase.moved.total)))
    return render(table, color)


def tell_intensity(found: Cost, conventions: Sequence[Convention], say: Say, ascii_only: bool, color: bool) -> str:
    """FLOPs for each of these bytes."""
    columns: list[Column] = [(say("FLOPs per byte"), "", "left"), ("", "", "left")]
    table = make_table([*columns, *((c, "", "right") for c in conventions)], ascii_only, footer=False)
    for name, side in sides(found, say):
        for i, (phase_name, phase) in enumerate(phases(side, say)):
            ratios = [phase.intensity(convention) for convention in conventions]
            table.add_row("" if i else name, phase_name, *("-" if x is None else f"{float(x):,.2f}" for x in ratios))
    return render(table, color)


def tell_sites(found: Cost, convention: Convention, say: Say, ascii_only: bool, color: bool) -> str:
    """Where FLOPs of the run with the cache are executed, all layers together."""
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
    """A kind of layer in words."""
    same = [other for other in found.config.layers if other == kind]
    attends = say("full attention")
    if kind.window is not None:
        attends = say("window {window}").format(window=number(kind.window))
    feeds = say("dense")
    if kind.experts is not None:
        feeds = say("{chosen} of {count} experts").format(chosen=kind.experts.chosen, count=kind.experts.count)
    return say("{n} layers: {attends}, {feeds}").format(n=len(same), attends=attends, feeds=feeds)


def tell_kinds(found: Cost, convention: Convention, say: Say) -> list[str]:
    """FLOPs of the layers of each kind, where there are several; and what would be without a choice of experts."""
    prefill, decode = found.cached.prefill, found.cached.decode
    lines = []
    if len(set(found.config.layers)) > 1:
        kinds = prefill.flops_by_layer_kind(convention), decode.flops_by_layer_kind(convention)
        lines.append(say("FLOPs by kind of layer, {convention} (prefill; decode):").format(convention=convention))
        lines += [
            f"  {name_kind(found, kind, say)}: {number(flops)}; {number(kinds[1].get(kind, 0))}"
            for kind, flops in kinds[0].items()
        ]
    if found.parameters.choosy:
        told = say("through every expert, {convention}: prefill {prefill} FLOPs, decode {decode}")
        pair = (number(phase.flops_of_all_experts(convention)) for phase in (prefill, decode))
        lines.append(told.format(convention=convention, **dict(zip(("prefill", "decode"), pair, strict=True))))
        lines.append(
            say(
                "experts' weights: what a step of several tokens reads at most (each could choose others), and what its"
                " roofline takes"
            )
        )
    told = say("without the head, {convention}: prefill {prefill} FLOPs, decode {decode}")
    pair = (number(phase.flops_without_head(convention)) for phase in (prefill, decode))
    lines.append(told.format(convention=convention, **dict(zip(("prefill", "decode"), pair, strict=True))))
    return lines


def tell_crossover(found: Cost, conventions: Sequence[Convention], say: Say) -> str:
    """From which context on attention costs more than weights do."""

    def tokens(value: int | None) -> str:
        return say("never") if value is None else number(value)

    prefills = ", ".join(f"{tokens(found.crossover.prefill[c])} ({c})" for c in conventions)
    return say(
        "attention overtakes all products with weights: decode at context {decode}; prefill of {prefill}"
    ).format(decode=tokens(found.crossover.decode), prefill=prefills)


def _bound_by(bound: Bound, say: Say) -> str:
    if not bound.steps:
        return "-"
    if not bound.memory_bound:
        return say("compute")
    if not bound.compute_bound:
        return say("memory")
    return say("compute in {compute} steps, memory in {memory}").format(
        compute=number(bound.compute_bound), memory=number(bound.memory_bound)
    )


def tell_roofline(
    found: Cost, conventions: Sequence[Convention], device: Device, limits: Limits, say: Say,
    ascii_only: bool, color: bool,
) -> str:  # fmt: skip
    """The least time on a device: first token and the others apart."""
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
    for name in (say("first token, ms"), say("each other, ms"), say("all, s")):
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


def tell_cost(
    found: Cost, conventions: Sequence[Convention], device: Device | None, limits: Limits | None, say: Say,
    ascii_only: bool = False, color: bool = False,
) -> str:  # fmt: skip
    """The whole answer of `kvsim cost`. What is told of one convention is told of the last of them."""
    say = plain(say) if ascii_only else say
    parts = [
        *tell_heading(found, say),
        *explain_conventions(conventions, say),
        tell_flops(found, conventions, say, ascii_only, color),
        tell_bytes(found, say, ascii_only, color),
        tell_intensity(found, conventions, say, ascii_only, color),
        say("KV cache after the last step: {bytes}").format(bytes=byte_line(found.count.kv_bytes)),
        tell_sites(found, conventions[-1], say, ascii_only, color),
        *tell_kinds(found, conventions[-1], say),
        tell_crossover(found, conventions, say),
    ]
    if device is not None and limits is not None:
        parts.append(tell_roofline(found, conventions, device, limits, say, ascii_only, color))
    return "\n".join(parts)
