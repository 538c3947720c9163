"""What `kvsim chat` prints."""

from collections.abc import Sequence

from kvsim.comparisons.chat_script_record import Chat, Line
from kvsim.comparisons.conversation_record import Turn
from kvsim.comparisons.counts import Counts
from kvsim.i18n.language import Say, explain, plain
from kvsim.i18n.printable import printable, show_end
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import cut, number, percent_saved, significant, tail

_WIDTH = 24  # terminal cells of a turn's text, and of its reply


def label(line: Line, say: Say) -> str:
    """The number of a turn, or where a fork or an edit branches off."""
    if line.kind == "turn":
        return str(line.turn.number)
    text = say("fork after {number}") if line.kind == "fork" else say("edit of {number}")
    return text.format(number=line.at)


def _pairs(fresh: Counts, reused: Counts) -> list[str]:
    """Score cells, projected rows and MACs, each as "without / with reuse"."""
    sides = [(c.score_cells, c.projected_rows, c.macs) for c in (fresh, reused)]
    return [f"{number(a)} / {number(b)}" for a, b in zip(*sides, strict=True)]


def turn_sheet(turns: Sequence[Turn], names: Sequence[str], say: Say, ascii_only: bool = False) -> Sheet:
    """One row a turn, under its name, and totals."""
    fresh, reused = Counts.sum(t.fresh.counts for t in turns), Counts.sum(t.reused.counts for t in turns)
    cells, rows, macs = _pairs(fresh, reused)
    columns = [
        Column("turn", say("turn"), "left"),
        Column("text", say("text"), "left", say("total"), bend="tail"),
        Column("reply", say("reply"), "left", bend="cut"),
        Column("reused", say("reused"), total=number(sum(t.cached for t in turns))),
        Column("fed", say("fed"), total=number(sum(t.new for t in turns))),
        Column("cells", say("score cells"), total=cells),
        Column("rows", say("projected rows"), total=rows),
        Column("macs", say("MACs"), total=macs),
        Column("bytes", say("cache, B")),
    ]
    table = Sheet("chat", columns, totals=True)
    for name, turn in zip(names, turns, strict=True):
        text = show_end(printable(turn.text or "", ascii_only), ascii_only)
        reply = show_end(printable(turn.reply or "", ascii_only), ascii_only)
        table.add(
            name,
            tail(text, _WIDTH, ascii_only),
            cut(reply, _WIDTH, ascii_only),
            number(turn.cached),
            number(turn.new),
            *_pairs(turn.fresh.counts, turn.reused.counts),
            number(turn.reused.kv_bytes),
        )
    return table


def notes(chat: Chat, say: Say) -> list[str]:
    """What is compared, what is saved, how far the logits differ, and where the cache was filled again."""
    totals = chat.totals
    lines = [
        say(
            "Without / with reuse: a fresh cache that is fed the whole conversation at every turn, and one that is"
            " kept. Score cells are those of QKᵀ for each head of each layer, projected rows those of Q, K and V"
            " together for each layer, MACs those of the whole model."
        ),
        say("Reuse saves {cells} of the score cells, {rows} of the projected rows and {macs} of the MACs.").format(
            cells=percent_saved(totals.fresh.score_cells, totals.reused.score_cells),
            rows=percent_saved(totals.fresh.projected_rows, totals.reused.projected_rows),
            macs=percent_saved(totals.fresh.macs, totals.reused.macs),
        ),
        _agreement(chat, say),
    ]
    for line in chat.lines:
        if line.turn.restart is not None:
            reason = explain(line.turn.restart, say)
            text = say("{turn}: the cache was cleared and fed the whole conversation: {reason}")
            lines.append(text.format(turn=label(line, say), reason=reason))
    return lines


def _agreement(chat: Chat, say: Say) -> str:
    """The largest difference of the logits, and whether rounding explains it."""
    widest = max((line.turn for line in chat.wrong or chat.lines), key=lambda turn: turn.max_abs_diff)
    if all(line.turn.identical for line in chat.lines):
        text = say("The logits of both are identical, bit for bit.")
    elif not chat.lossless:
        text = say("The logits of both differ by up to {diff}: {cache} is lossy.")
    elif chat.wrong and chat.by_length is not None:
        text = say(
            "The logits of both differ by {diff} by design: {kind} positions depend on how the tokens are cut into"
            " steps."
        )
    elif chat.wrong:
        text = say("CHECK FAILED: the logits of both differ by {diff}, more than {dtype} allows ({allowed}).")
    else:
        text = say("The logits of both differ by at most {diff} ({dtype} allows {allowed}).")
    return text.format(
        diff=significant(widest.max_abs_diff), allowed=significant(widest.allowed_diff), dtype=chat.dtype,
        cache=chat.cache, kind=chat.by_length,
    )  # fmt: skip


def chat_parts(chat: Chat, say: Say, ascii_only: bool = False) -> list[Part]:
    """Heading, table, notes."""
    model = say("model {name} (layers {layers}, heads {heads} / KV heads {kv_heads}, d_head {d_head})")
    heading = printable(model.format(**chat.model)) + "   " + say("cache {cache}").format(cache=chat.cache)
    names = [label(line, say) for line in chat.lines]
    return [heading, turn_sheet([line.turn for line in chat.lines], names, say, ascii_only), *notes(chat, say)]


def format_chat(chat: Chat, say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim chat`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(chat_parts(chat, say, screen.ascii_only), say, screen)
