"""The lines around the table of a trace: the model above it, and below it what the numbers mean."""

from collections.abc import Callable

from kvsim.comparisons.counts import Counts
from kvsim.comparisons.trace_record import Trace
from kvsim.i18n.language import Say
from kvsim.i18n.printable import printable
from kvsim.views.terminal.text import number, significant

UNITS: dict[str, Callable[[Counts], int]] = {
    "cells": lambda counts: counts.score_cells,
    "useful": lambda counts: counts.useful_cells,
    "rows": lambda counts: counts.projected_rows,
    "macs": lambda counts: counts.macs,
    "flops": lambda counts: counts.flops,
}


def headline(trace: Trace, say: Say) -> str:
    """The model, and how the tokens were fed."""
    model = say("model {name} (layers {layers}, heads {heads} / KV heads {kv_heads}, d_head {d_head})")
    return printable(model.format(**trace.model)) + "   " + _feed(trace, say)


def _feed(trace: Trace, say: Say) -> str:
    """How many tokens were fed, and in which chunks; "characters" where every token is one."""
    by_character = all(len(piece.text) == 1 for piece in trace.fed)
    if trace.feed == "token":
        one = say("characters fed one by one: {n}") if by_character else say("tokens fed one by one: {n}")
        return one.format(n=len(trace.fed))
    sizes = [len(step.fed) for step in trace.steps]
    prompt, new = len(trace.prompt), len(trace.new) - 1  # the last new token is chosen but never fed
    chunks = "+".join(map(str, sizes[: len(sizes) - new]))
    if new == 0:
        text = say("tokens fed: {prompt} of the prompt ({chunks})")
        if by_character:
            text = say("characters fed: {prompt} of the prompt ({chunks})")
        return text.format(prompt=prompt, chunks=chunks)
    text = say("tokens fed: {prompt} of the prompt ({chunks}), then {new} one by one")
    if by_character:
        text = say("characters fed: {prompt} of the prompt ({chunks}), then {new} one by one")
    return text.format(prompt=prompt, chunks=chunks, new=new)


def footnotes(trace: Trace, say: Say, count: str, explained: bool = False) -> list[str]:
    """What is counted, how far the logits of both runs differ, and what other ways of counting give.

    `explained`: also where a difference comes from.
    """
    lines = [_meaning(trace, say, count), _agreement(trace, say), *_other_counts(trace, say, count)]
    if explained and trace.agrees and trace.max_abs_diff > 0.0:
        lines.append(
            say(
                "The difference is rounding: a BLAS adds the products of one row in another order than those of"
                " several rows. The backend exact adds in one order, and nothing differs (--backend exact)."
            )
        )
    return lines


def _meaning(trace: Trace, say: Say, count: str) -> str:
    meaning = {
        "cells": say(
            "{before} and {after} are score cells of QKᵀ (for each head of each layer), projections not"
            " included; projected rows are those of Q, K and V together."
        ),
        "useful": say(
            "{before} and {after} are the score cells of QKᵀ that the causal mask admits (for each head of"
            " each layer); projected rows are those of Q, K and V together."
        ),
        "rows": say(
            "{before} and {after} are rows that were multiplied by the weights of Q, K or V, each of the three"
            " counted (for each layer)."
        ),
        "macs": say("{before} and {after} are the multiply-accumulates of every matrix product of the whole model."),
        "flops": say("{before} and {after} are FLOPs, two for each multiply-accumulate, of the whole model."),
    }[count]
    unit = UNITS[count]
    return meaning.format(before=number(unit(trace.totals.no_cache)), after=number(unit(trace.totals.cached)))


def _agreement(trace: Trace, say: Say) -> str:
    """The largest difference of the logits, whether rounding explains it, and the bytes of the cache."""
    text = say("The logits of both runs differ by at most {diff} ({dtype} allows {allowed}). KV cache {bytes} B.")
    if trace.fixed_order and trace.agrees:
        text = say("The logits of both runs are identical, bit for bit. KV cache {bytes} B.")
    elif trace.differs_by_design:
        text = say(
            "The logits of both runs differ by {diff} by design: with {kind} positions cached keys keep the"
            " frequencies of the length at which they were cached. KV cache {bytes} B."
        )
    elif not trace.agrees:
        text = say(
            "CHECK FAILED at step {step}: the logits of both runs differ by {diff}, more than {dtype}"
            " allows ({allowed}). KV cache {bytes} B."
        )
    return text.format(
        step=trace.widest.number, kind=trace.by_length, diff=significant(trace.max_abs_diff), dtype=trace.dtype,
        allowed=significant(trace.allowed_diff), bytes=number(trace.steps[-1].cached.kv_bytes),
    )  # fmt: skip


def _other_counts(trace: Trace, say: Say, count: str) -> list[str]:
    """The totals with the prompt fed at once, and of useful cells, as a line of their own if there are any."""
    parts = []
    if trace.as_prefill is not None:
        pair = [number(UNITS[count](side)) for side in trace.as_prefill]
        parts.append(say("the prompt fed at once (--feed prefill): {0} against {1}").format(*pair))
    if count == "cells":
        pair = [number(side.useful_cells) for side in trace.totals]
        parts.append(say("only the cells that are not masked (--count useful): {0} against {1}").format(*pair))
    if not parts:
        return []
    line = say("; ").join(parts) + say(".")
    return [line[0].upper() + line[1:]]
