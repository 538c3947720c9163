"""The page of a conversation: each turn's tokens, those that the cache had already seen in blue."""

import html
from collections.abc import Iterable
from typing import Any

from kvsim.comparisons.chat_script_record import Chat, Line
from kvsim.comparisons.conversation_record import Work
from kvsim.i18n.language import LANGUAGES, Say, explain, words
from kvsim.i18n.printable import printable
from kvsim.views.page.kinds import Told
from kvsim.views.page.results.chat_texts import chat_texts
from kvsim.views.terminal.chat import chat_parts, label, notes
from kvsim.views.terminal.sheet import Sheet
from kvsim.views.terminal.text import cut, percent_saved
from kvsim.views.terminal.tokens import Reader

_LABEL = 12  # terminal cells of a token's text


def tell(chat: Chat) -> Told:
    """The page's data and texts. Tokens of a chat without `pieces` are shown as their ids."""
    texts = {piece.id: piece.text for piece in chat.pieces}
    title = cut(printable(chat.lines[0].turn.text or ""), 40)
    return Told(
        data={"title": title, **_data(chat, texts)},
        texts=chat_texts,
        keys=lambda say: [],
        lines=lambda say: (str(chat_parts(chat, say)[0]), notes(chat, say)),
        title=lambda say: say("A conversation and its cache: {text}").format(text=title),
        still=lambda say: _draw_still(chat, texts, say),
    )


def _data(chat: Chat, texts: dict[int, str]) -> dict[str, Any]:
    totals = chat.totals
    return {
        "cache": chat.cache,
        "lines": [_line(chat, i, line, texts) for i, line in enumerate(chat.lines)],
        "totals": {name: counts._asdict() for name, counts in totals._asdict().items()},
        "saved": {
            name: percent_saved(getattr(totals.fresh, name), getattr(totals.reused, name))
            for name in ("score_cells", "projected_rows", "macs")
        },
    }


def _line(chat: Chat, number: int, line: Line, texts: dict[int, str]) -> dict[str, Any]:
    turn, restart = line.turn, line.turn.restart
    text, reply = _read(turn.ids, texts), _read(turn.reply_ids, texts)
    return {
        "kind": line.kind,
        "label": [label(line, words(code)) for code in LANGUAGES],
        "text": [cut(name, _LABEL) for name in text],
        "reply": [cut(name, _LABEL) for name in reply],
        "long": {i: name for i, name in enumerate((*text, *reply)) if cut(name, _LABEL) != name},
        "start": turn.start,
        "before": chat.before(number),
        "conversation": chat.conversation(number) if turn.dropped else [],
        "cached": turn.cached,
        "new": turn.new,
        "dropped": turn.dropped,
        "reused": _work(turn.reused),
        "fresh": _work(turn.fresh),
        "max_abs_diff": turn.max_abs_diff,
        "allowed_diff": turn.allowed_diff,
        "agrees": turn.agrees,
        "identical": turn.identical,
        "restart": None if restart is None else [explain(restart, words(code)) for code in LANGUAGES],
    }


def _read(ids: Iterable[int], texts: dict[int, str]) -> list[str]:
    """The tokens of a text, in whole characters."""
    reader = Reader()
    return [reader.read(texts.get(i, f"[{i}]")) for i in ids]


def _work(work: Work) -> dict[str, int]:
    return {**work.counts._asdict(), "kv_bytes": work.kv_bytes, "allocated_bytes": work.allocated_bytes}


def _draw_still(chat: Chat, texts: dict[int, str], say: Say) -> str:
    """A heading, each turn's reused and computed tokens in numbers and the table of all turns."""
    heading, table, *_ = chat_parts(chat, say)
    assert isinstance(table, Sheet)
    parts = [f"<h1>{_mark(say('A conversation and its cache'))}</h1>", f"<p>{_mark(str(heading))}</p>"]
    for line in chat.lines:
        tokens = "".join([*_read(line.turn.ids, texts), " → ", *_read(line.turn.reply_ids, texts)])
        parts.append(f"<p><bdi>{_mark(f'{label(line, say)}: {tokens}')}</bdi></p>")
    rows = [_row("th", (column.heading for column in table.columns)), *(_row("td", row) for row in table.rows)]
    rows.append(_row("th", (column.total for column in table.columns)))
    return "".join([*parts, f"<table>{''.join(rows)}</table>", *(f"<p>{_mark(line)}</p>" for line in notes(chat, say))])


def _mark(text: str) -> str:
    return html.escape(text, quote=False)


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_mark(cell)}" for cell in cells)
