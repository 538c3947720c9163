"""The output of `kvsim plan` on a terminal: what fits under each reading of the memory size, and remedies."""

from kvsim.costs.plans.planning import Fit, Plan, decimal
from kvsim.costs.plans.remedies import Remedy
from kvsim.i18n.language import Say, plain
from kvsim.views.terminal.memory import exact_bytes
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import number


def _limit(count: int | None, say: Say) -> str:
    return say("unlimited") if count is None else number(count)


def reading_names(plan: Plan, say: Say) -> dict[str, str]:
    """The name of each reading of the device's memory size: "24 GB", "24 GiB", the driver's."""
    figure = plan.fits[0].memory // 10**9
    return {
        "gb": f"{figure} GB = {figure}·10^9 B",
        "gib": f"{figure} GiB = {figure}·2^30 B",
        "usable": say("what the driver reports"),
    }


def fits_sheet(plan: Plan, say: Say) -> Sheet:
    """The table with one line for each reading."""
    columns = [
        Column("reading", say("memory read as"), "left"),
        Column("budget", say("budget, B")),
        Column("tokens", say("tokens")),
        Column("requests", say("requests")),
        Column("spare", say("left after one request, B")),
    ]
    table = Sheet("plan", columns)
    readings = reading_names(plan, say)
    for fit in plan.fits:
        table.add(
            readings[fit.reading], number(fit.budget), _limit(fit.tokens, say), _limit(fit.requests, say),
            number(fit.spare),
        )  # fmt: skip
    return table


def remedy_name(remedy: Remedy, say: Say) -> str:
    """A change in words."""
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


def remedies_sheet(remedies: tuple[Remedy, ...], say: Say) -> Sheet:
    """The table with one line for each change, the largest saving first."""
    columns = [
        Column("change", say("change"), "left", bend="wrap"),
        Column("saved", say("saved, B")),
        Column("requests", say("requests")),
    ]
    table = Sheet("plan-remedies", columns)
    for remedy in remedies:
        requests = " / ".join(_limit(fit.requests, say) for fit in remedy.fits)
        table.add(remedy_name(remedy, say), number(remedy.saved), requests)
    return table


def _missing(fits: tuple[Fit, ...], plan: Plan, say: Say) -> list[str]:
    """One line for each reading under which no request fits, with the missing bytes."""
    readings = reading_names(plan, say)
    return [
        say("{reading}: weights and one request do not fit, {bytes} are missing").format(
            reading=readings[fit.reading], bytes=exact_bytes(-fit.spare)
        )
        for fit in fits
        if fit.spare < 0
    ]


def _heads(plan: Plan, say: Say) -> list[str]:
    """The line on how KV heads are divided, with several devices."""
    devices, (heads, each) = plan.setup.devices, plan.kv_heads
    if devices == 1:
        return []
    if plan.setup.config.latent is not None and heads == 1:
        return [say("Latents are shared by all heads: each of the {devices} devices holds all of them.").format(
            devices=devices)]  # fmt: skip
    if each * devices == heads:
        return [say("KV heads of the model: {heads}; of each device: {each}.").format(heads=heads, each=each)]
    return [
        say("{heads} KV heads do not divide by {devices} devices: replicated, up to {each} on each device.").format(
            heads=heads, devices=devices, each=each
        )
    ]


def plan_parts(plan: Plan, remedies: tuple[Remedy, ...], say: Say) -> list[Part]:
    """Sizes, what fits, changes that would save bytes, definitions."""
    setup = plan.setup
    parts: list[Part] = [
        say("model {model} on {devices} × {device}, weights in {dtype}, cache in {cache}, utilization {share}").format(
            model=plan.model, devices=setup.devices, device=setup.device.name, dtype=setup.dtype, cache=setup.kv_dtype,
            share=decimal(plan.utilization),
        ),
        say("weights: {bytes}").format(bytes=exact_bytes(setup.weight_bytes)),
        say("a request of {context} tokens: {bytes}").format(
            context=number(plan.context), bytes=exact_bytes(plan.request_bytes)
        ),
        *_heads(plan, say),
        fits_sheet(plan, say),
        *_missing(plan.fits, plan, say),
    ]  # fmt: skip
    if remedies:
        parts += ["", say("changes that would save bytes, each alone:"), remedies_sheet(remedies, say)]
    return [*parts, *_footnotes(plan, say)]


def format_plan(plan: Plan, remedies: tuple[Remedy, ...], say: Say, screen: Screen = ANYWHERE) -> str:
    """The whole output of `kvsim plan`."""
    say = plain(say) if screen.ascii_only else say
    text = lay_out(plan_parts(plan, remedies, say), say, screen)
    return text.replace("×", "x").replace("·", "*") if screen.ascii_only else text


def _footnotes(plan: Plan, say: Say) -> list[str]:
    """Definitions of what is counted."""
    notes = [
        say("Counted: weights and the rows of a lossless cache. Activations and libraries are not counted: a"
            " utilization below 1 leaves room for them.")
    ]  # fmt: skip
    if plan.setup.devices > 1:
        notes.append(say("Bytes are those of the fullest device."))
    if plan.setup.growth.windows:
        notes.append(say("Tokens are those of one sequence: layers with a window stop growing."))
    if plan.setup.growth.options is not None:
        notes.append(say("A quantised cache shrinks each time 64 more rows are quantised: its largest size must fit."))
    if plan.setup.dtype in ("int8", "int4"):
        notes.append(
            say(
                "Quantised weights: the layers' matrices, one float16 scale per 128 inputs; the rest in {dtype}."
            ).format(dtype=plan.setup.compute_dtype)
        )
    return notes
