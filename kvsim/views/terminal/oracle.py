"""The oracle at the terminal: the bank of mistakes, one mistake, a tolerance and its parts."""

from collections.abc import Iterable
from typing import Any

from kvsim.i18n.language import Say, language_of
from kvsim.i18n.wrapping import wrap
from kvsim.testing.verifying import BROKEN, FINE, NOT_STARTED
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.text import significant


def format_report(text: str, screen: Screen = ANYWHERE) -> str:
    """A report of several lines, such as that of a failed check, in the width of `screen`. Pictures in it are drawn
    as they are where they fit."""
    return "\n".join(part for line in text.split("\n") for part in wrap(line, screen.width))


def say_outcome(found: Any, text: str, say: Say) -> str:
    """How a check of `kvsim verify` ended. `found`: a `kvsim.testing.verifying.Found`; `text`: what it says of a
    failure."""
    templates = {
        FINE: say("{target}: right, also after {edits}") if found.edits else say("{target}: right"),
        NOT_STARTED: say("{target}: not started yet: {text}"),
        BROKEN: say("{target}: cannot be checked: {text}"),
    }
    return templates.get(found.ended, "{text}").format(target=found.target, text=text, edits=", ".join(found.edits))


def format_bank(mistakes: Iterable[Any], language: str, screen: Screen = ANYWHERE) -> str:
    """One line for each mistake: its id and what it is; on a narrow terminal the latter below the former."""
    known = list(mistakes)
    left = max(len(m.id) for m in known) + 2
    if screen.width is not None and 2 * left > screen.width:
        lines = [line for m in known for line in (m.id, *wrap(f"  {m.sentence(language)}", screen.width, 2))]
    else:
        lines = [line for m in known for line in wrap(f"{m.id:<{left}}{m.sentence(language)}", screen.width, left)]
    return "\n".join(lines)


def format_mistake(mistake: Any, failure: str, say: Say, screen: Screen = ANYWHERE) -> str:
    """What the mistake is, its smallest feed, a real bug of the kind; then the text of a failing check."""
    feed = ", ".join(str(size) for size in mistake.smallest)
    window = "" if mistake.window is None else say(", in a model with window {window}").format(window=mistake.window)
    policy = "" if mistake.policy == "dynamic" else say(", with the cache {policy}").format(policy=mistake.policy)
    lines = [f"[{mistake.id}] {mistake.sentence(language_of(say))}"]
    smallest = say("smallest feed: [{feed}]{window}{policy}").format(feed=feed, window=window, policy=policy)
    lines.append(smallest + (say(", then {edit}").format(edit=mistake.edits) if mistake.edits else ""))
    if mistake.twin:
        lines.append(say("a real bug of the kind: {twin}").format(twin=mistake.twin))
    return format_report("\n".join([*lines, *(["", failure] if failure else [])]), screen)


def tolerance_lines(found: Any, say: Say) -> list[str]:
    """The bound and its parts, one a line."""
    sizes, allowed = found.sizes, found.allowed
    lines = [
        say("{layers} layers, {heads} heads, {kv_heads} kv heads, d_head {d_head}, {context} tokens").format(
            layers=sizes.layers, heads=sizes.heads, kv_heads=sizes.kv_heads, d_head=sizes.d_head, context=found.context
        ),
        say("max|logit| in float64: {value}").format(value=f"{found.largest:.3f}"),
        say("every intermediate result rounded to {dtype}: error {value}").format(
            dtype=found.dtype, value=significant(found.emulated)
        ),
    ]
    if found.own is not None:
        lines.append(say("kvsim's own run in {dtype}: error {value}").format(
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
    return lines


def format_tolerance(found: Any, say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim tolerance`."""
    return format_report("\n".join(tolerance_lines(found, say)), screen)
