"""Tables and lines as HTML for a notebook: no script, no color of its own, everything escaped."""

from collections.abc import Iterable
from html import escape

from kvsim.i18n.printable import printable
from kvsim.views.terminal.sheet import Drawing, Part, Sheet


def _cell(tag: str, text: str, side: str) -> str:
    """Columns of numbers stand on the right: no number breaks at a hyphen."""
    whole = "; white-space: nowrap" if side == "right" else ""
    return f'<{tag} style="text-align: {side}{whole}">{escape(printable(text))}</{tag}>'


def _row(tag: str, cells: list[str], sheet: Sheet) -> str:
    """One row; cells that it lacks at its end are empty."""
    full = [*cells, *[""] * (len(sheet.columns) - len(cells))]
    return (
        "<tr>"
        + "".join(_cell(tag, text, column.side) for text, column in zip(full, sheet.columns, strict=True))
        + "</tr>"
    )


def _table(sheet: Sheet) -> str:
    """The table with all columns: a notebook scrolls."""
    head = _row("th", [column.heading for column in sheet.columns], sheet)
    body = "".join(_row("td", row, sheet) for row in sheet.rows)
    foot = _row("th", [column.total for column in sheet.columns], sheet) if sheet.totals else ""
    parts = [f"<thead>{head}</thead>", f"<tbody>{body}</tbody>", f"<tfoot>{foot}</tfoot>" if foot else ""]
    return f"<table>{''.join(parts)}</table>"


def to_html(parts: Iterable[Part], language: str) -> str:
    """The parts one below the other."""
    shown = []
    for part in parts:
        if isinstance(part, Sheet):
            shown.append(_table(part))
        elif isinstance(part, Drawing):
            shown.append(f"<pre>{escape(part.draw(None).plain)}</pre>")
        elif part:
            shown.append(f"<div>{escape(printable(part))}</div>")
    return f'<div lang="{language}">{"".join(shown)}</div>'
