"""The table of `kvsim chat`."""

from rich.text import Text

from kvsim.comparisons.chat_script_record import Chat, Line
from kvsim.comparisons.counts import Counts
from kvsim.i18n.language import Say, explain, plain
from kvsim.i18n.printable import ended, printable
from kvsim.views.terminal.text import cut, number, percent_saved, significant, tail
from kvsim.views.terminal.trace import Column, make_table, render

_WIDTH = 24  # cells of a turn's text, and of its reply


def label(line: Line, say: Say) -> str:
    """Which turn a row is."""
    if line.kind == "turn":
        return str(line.turn.number)
    told = say("fork after {number}") if line.kind == "fork" else say("edit of {number}")
    return told.format(number=line.at)


def _pairs(fresh: Counts, reused: Counts) -> list[str]:
    """What a fresh start executed, and what the conversation's cache left to be executed."""
    sides = [(c.score_cells, c.projected_rows, c.macs) for c in (fresh, reused)]
    return [f"{number(a)} / {number(b)}" for a, b in zip(*sides, strict=True)]


def turn_table(chat: Chat, say: Say, ascii_only: bool, color: bool) -> str:
    """One row a turn, and totals."""
    totals = chat.totals
    cells, rows, macs = _pairs(totals.fresh, totals.reused)
    turns = [line.turn for line in chat.lines]
    columns: list[Column] = [
        (say("turn"), "", "left"),
        (say("text"), say("total"), "left"),
        (say("reply"), "", "left"),
        (say("reused"), number(sum(t.cached for t in turns)), "right"),
        (say("fed"), number(sum(t.new for t in turns)), "right"),
        (say("score cells"), cells, "right"),
        (say("projected rows"), rows, "right"),
        ("MACs", macs, "right"),
        (say("cache, B"), "", "right"),
    ]
    table = make_table(columns, ascii_only)
    for line in chat.lines:
        turn = line.turn
        told = ended(printable(turn.text or "", ascii_only), ascii_only)
        reply = ended(printable(turn.reply or "", ascii_only), ascii_only)
        table.add_row(
            label(line, say),
            Text(tail(told, _WIDTH, ascii_only)),
            Text(cut(reply, _WIDTH, ascii_only)),
            number(turn.cached),
            number(turn.new),
            *_pairs(turn.fresh.counts, turn.reused.counts),
            number(turn.reused.kv_bytes),
        )
    return render(table, color)


def notes(chat: Chat, say: Say) -> list[str]:
    """What is compared, what is saved, how far both runs agree, and where the cache had to start again."""
    totals = chat.totals
    lines = [
        say(
            "Without / with reuse: a fresh cache, fed the whole conversation at every turn, and one that goes on. Score"
            " cells are those of QKᵀ for each head of each layer, projected rows those of Q, K and V together for each"
            " layer, MACs the whole model's."
        ),
        say("Reuse saves {cells} of the score cells, {rows} of the projected rows and {macs} of the MACs.").format(
            cells=percent_saved(totals.fresh.score_cells, totals.reused.score_cells),
            rows=percent_saved(totals.fresh.projected_rows, totals.reused.projected_rows),
            macs=percent_saved(totals.fresh.macs, totals.reused.macs),
        ),
    ]
    widest = max((line.turn for line in chat.wrong or chat.lines), key=lambda turn: turn.max_abs_diff)
    if all(line.turn.identical for line in chat.lines):
        agreement = say("The logits of both are identical, bit for bit.")
    elif not chat.lossless:
        agreement = say("The logits of both differ by up to {diff}: {cache} is lossy.")
    elif chat.wrong and chat.by_length is not None:
        agreement = say(
            "The logits of both differ by {diff} by design: {kind} positions depend on how the tokens are cut into"
            " steps."
        )
    elif chat.wrong:
        agreement = say("CHECK FAILED: the logits of both differ by {diff}, more than {dtype} allows ({allowed}).")
    else:
        agreement = say("The logits of both differ by at most {diff} ({dtype} allows {allowed}).")
    lines.append(
        agreement.format(
            diff=significant(widest.max_abs_diff), allowed=significant(widest.allowed_diff), dtype=chat.dtype,
            cache=chat.cache, kind=chat.by_length,
        )
    )  # fmt: skip
    for line in chat.lines:
        if line.turn.restart is not None:
            reason = explain(line.turn.restart, say)
            lines.append(say("{turn}: started again: {reason}").format(turn=label(line, say), reason=reason))
    return lines


def tell_chat(chat: Chat, say: Say, ascii_only: bool = False, color: bool = False) -> str:
    """The whole answer of `kvsim chat`."""
    say = plain(say) if ascii_only else say
    model = say("model {name} (layers {layers}, heads {heads} / KV heads {kv_heads}, d_head {d_head})")
    heading = printable(model.format(**chat.model)) + "   " + say("cache {cache}").format(cache=chat.cache)
    return "\n".join([heading, turn_table(chat, say, ascii_only, color), *notes(chat, say)])
