"""What `kvsim plan` finds, told: what fits under each reading, what would save, JSON."""

import json
from typing import Any

from kvsim import __version__
from kvsim.costs.plans.planning import Fit, Plan, decimal
from kvsim.costs.plans.remedies import Remedy
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.memory import byte_line
from kvsim.views.terminal.table import Column, make_table, render
from kvsim.views.terminal.text import number


def to_dict(plan: Plan, remedies: tuple[Remedy, ...]) -> dict[str, Any]:
    """Everything found, as `kvsim.plan/1`: exact integers; the utilisation as it is written."""
    setup, (heads, each) = plan.setup, plan.kv_heads
    return {
        "schema": "kvsim.plan/1",
        "kvsim": __version__,
        "model": plan.model,
        "max_context": setup.config.max_context,
        "device": setup.device.name,
        "devices": setup.devices,
        "dtype": setup.dtype,
        "computed": setup.computed,
        "cache_dtype": setup.kept,
        "utilization": decimal(plan.utilization),
        "source": setup.source,
        "context": plan.context,
        "beyond_model": plan.context > setup.config.max_context,
        "kv_heads": {"model": heads, "device": each, "copied": each * setup.devices > heads},
        "weight_bytes": setup.weight_bytes,
        "request_bytes": plan.request_bytes,
        "fits": [fit._asdict() for fit in plan.fits],
        "remedies": [{**r._asdict(), "fits": [fit._asdict() for fit in r.fits]} for r in remedies],
    }


def to_json(plan: Plan, remedies: tuple[Remedy, ...]) -> str:
    return json.dumps(to_dict(plan, remedies), ensure_ascii=False, allow_nan=False)


def _limit(count: int | None, say: Say) -> str:
    return say("no end") if count is None else number(count)


def reading_names(plan: Plan, say: Say) -> dict[str, str]:
    """What each reading of the device's figure is called: "24 GB", "24 GiB", "the driver's"."""
    figure = plan.fits[0].memory // 10**9
    return {
        "gb": f"{figure} GB = {figure}·10^9 B",
        "gib": f"{figure} GiB = {figure}·2^30 B",
        "usable": say("what the driver reports"),
    }


def tell_fits(plan: Plan, say: Say, ascii_only: bool, color: bool) -> str:
    """One line for each reading."""
    names = (say("memory read as"), say("budget, B"), say("tokens"), say("requests"), say("left by one request, B"))
    columns: list[Column] = [(name, "", "left" if i == 0 else "right") for i, name in enumerate(names)]
    table = make_table(columns, ascii_only, footer=False)
    called = reading_names(plan, say)
    for fit in plan.fits:
        table.add_row(
            called[fit.reading], number(fit.budget), _limit(fit.tokens, say), _limit(fit.requests, say),
            number(fit.spare),
        )  # fmt: skip
    return render(table, color)


def remedy_name(remedy: Remedy, say: Say) -> str:
    """What is changed."""
    templates = {
        "kv_heads": say("KV heads: {value} (another model)"),
        "weights": say("weights in {value}"),
        "cache": say("cache in {value}"),
        "window": say("a window of {value} in every layer without one (another model)"),
        "context": say("a context of {value}"),
        "devices": say("devices: {value}"),
    }
    value = number(remedy.value) if isinstance(remedy.value, int) else remedy.value
    return templates[remedy.kind].format(value=value)


def tell_remedies(remedies: tuple[Remedy, ...], say: Say, ascii_only: bool, color: bool) -> str:
    """One line for each change, the most bytes first."""
    names = (say("change"), say("saved, B"), say("requests"))
    columns: list[Column] = [(name, "", "left" if i == 0 else "right") for i, name in enumerate(names)]
    table = make_table(columns, ascii_only, footer=False)
    for remedy in remedies:
        requests = " / ".join(_limit(fit.requests, say) for fit in remedy.fits)
        table.add_row(remedy_name(remedy, say), number(remedy.saved), requests)
    return render(table, color)


def _missing(fits: tuple[Fit, ...], plan: Plan, say: Say) -> list[str]:
    """Readings under which not one request fits, and by how much."""
    called = reading_names(plan, say)
    return [
        say("{reading}: weights and one request do not fit, {bytes} are missing").format(
            reading=called[fit.reading], bytes=byte_line(-fit.spare)
        )
        for fit in fits
        if fit.spare < 0
    ]


def _heads(plan: Plan, say: Say) -> list[str]:
    """How KV heads are split."""
    devices, (heads, each) = plan.setup.devices, plan.kv_heads
    if devices == 1:
        return []
    if plan.setup.config.latent is not None and heads == 1:
        return [say("Latents belong to all heads: each of the {devices} devices holds them all.").format(
            devices=devices)]  # fmt: skip
    if each * devices == heads:
        return [say("KV heads of the model: {heads}; of each device: {each}.").format(heads=heads, each=each)]
    return [
        say("{heads} KV heads do not divide by {devices} devices: replicated, up to {each} on each device.").format(
            heads=heads, devices=devices, each=each
        )
    ]


def tell_plan(plan: Plan, remedies: tuple[Remedy, ...], say: Say, ascii_only: bool = False, color: bool = False) -> str:
    """The whole answer of `kvsim plan`."""
    say = plain(say) if ascii_only else say
    setup = plan.setup
    lines = [
        say("model {model} on {devices} × {device}, weights in {dtype}, cache in {cache}, utilization {share}").format(
            model=plan.model, devices=setup.devices, device=setup.device.name, dtype=setup.dtype, cache=setup.kept,
            share=decimal(plan.utilization),
        ),
        say("weights: {bytes}").format(bytes=byte_line(setup.weight_bytes)),
        say("a request of {context} tokens: {bytes}").format(
            context=number(plan.context), bytes=byte_line(plan.request_bytes)
        ),
        *_heads(plan, say),
        tell_fits(plan, say, ascii_only, color),
        *_missing(plan.fits, plan, say),
    ]  # fmt: skip
    if remedies:
        lines += ["", say("what would save, each by itself:"), tell_remedies(remedies, say, ascii_only, color)]
    lines += _footnotes(plan, say)
    text = "\n".join(lines)
    return text.replace("×", "x").replace("·", "*") if ascii_only else text


def _footnotes(plan: Plan, say: Say) -> list[str]:
    """What is counted."""
    notes = [
        say("Counted: weights and a lossless cache's rows, nothing else; activations and libraries are what a"
            " utilization below 1 leaves room for.")
    ]  # fmt: skip
    if plan.setup.devices > 1:
        notes.append(say("Bytes are those of the fullest device."))
    if plan.setup.growth.windows:
        notes.append(say("Tokens are those of one sequence: layers with a window stop growing."))
    if plan.setup.growth.group is not None:
        notes.append(
            say("A quantised cache shrinks whenever 64 rows more are quantised: the most on the way must fit.")
        )
    if plan.setup.dtype in ("int8", "int4"):
        notes.append(
            say("Quantised weights: the layers' matrices, a float16 scale for 128 inputs; others in {dtype}.").format(
                dtype=plan.setup.computed
            )
        )
    return notes
