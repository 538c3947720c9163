"""The oracle at the terminal: mistakes, and tolerances with where they come from."""

from collections.abc import Iterable
from typing import Any

from kvsim.i18n.language import Say
from kvsim.views.terminal.text import significant


def tell_bank(mistakes: Iterable[Any], language: str) -> str:
    """One line a mistake."""
    known = list(mistakes)
    width = max(len(m.id) for m in known) + 2
    return "\n".join(f"{m.id:<{width}}{m.sentence(language)}" for m in known)


def tell_mistake(mistake: Any, shown: str, language: str, say: Say) -> str:
    """What it is, where it shows, who made it before; then what the oracle prints."""
    feed = ", ".join(str(size) for size in mistake.smallest)
    window = "" if mistake.window is None else say(", in a model with window {window}").format(window=mistake.window)
    policy = "" if mistake.policy == "dynamic" else say(", with the cache {policy}").format(policy=mistake.policy)
    lines = [f"[{mistake.id}] {mistake.sentence(language)}"]
    lines.append(say("smallest feed: [{feed}]{window}{policy}").format(feed=feed, window=window, policy=policy))
    if mistake.twin:
        lines.append(say("a real bug of the kind: {twin}").format(twin=mistake.twin))
    return "\n".join([*lines, *(["", shown] if shown else [])])


def tell_tolerance(found: Any, say: Say) -> str:
    """The bound and its parts."""
    sizes, allowed = found.sizes, found.allowed
    lines = [
        say("{layers} layers, {heads} heads, {kv_heads} kv heads, d_head {d_head}, {context} tokens").format(
            layers=sizes.layers, heads=sizes.heads, kv_heads=sizes.kv_heads, d_head=sizes.d_head, context=found.context
        ),
        say("max|logit| in float64: {value}").format(value=f"{found.largest:.3f}"),
        say("every step's result kept in {dtype}: off by {value}").format(
            dtype=found.dtype, value=significant(found.emulated)
        ),
    ]
    if found.own is not None:
        lines.append(say("kvsim's own run in {dtype}: off by {value}").format(
            dtype=found.dtype, value=significant(found.own)
        ))  # fmt: skip
    lines.append(say("floor: 8 x eps x max|logit| = {value}").format(value=significant(allowed.floor)))
    lines.append(
        say("allowed (atol): 2 x {own} + {floor} = {value}").format(
            own=significant(allowed.own), floor=significant(allowed.floor), value=significant(allowed.value)
        )
    )
    if allowed.value >= found.largest:
        lines.append(
            say("as large as the logits themselves: a check of logits in {dtype} could not fail").format(
                dtype=found.dtype
            )
        )
    return "\n".join(lines)
