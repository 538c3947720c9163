"""The rows of a sweep as CSV, and as a table on a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence

from kvsim.costs.plans.planning import READINGS
from kvsim.costs.plans.sweep import COLUMNS, Row
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import printable
from kvsim.views.terminal.table import Column, make_table, render


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV (RFC 4180, but with Unix line ends) under a heading; None is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()


def _cell(value: object) -> str:
    """A value as text: an integer with thousands separators, "-" for None."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))


TEXTS = ("model", "dtype", "cache_dtype", "device", "refused")
SHOWN = (
    *COLUMNS[:10], *(f"{reading}_{what}" for what in ("spare", "requests") for reading in READINGS), "refused",
)  # fmt: skip


def format_sweep(rows: Sequence[Row], say: Say, ascii_only: bool = False, color: bool = False) -> str:
    """The table with one line for each row. Its columns are a selection of the CSV's, with the same names."""
    say = plain(say) if ascii_only else say
    names = [name for name in SHOWN if name != "refused" or any(row[-1] is not None for row in rows)]
    places = [COLUMNS.index(name) for name in names]
    columns: list[Column] = [(name, "", "left" if name in TEXTS else "right") for name in names]
    table = make_table(columns, ascii_only, footer=False)
    for row in rows:
        table.add_row(*(_cell(row[place]) for place in places))
    note = say(
        "spare: bytes left beside the weights and the whole batch (below 0: missing); requests: the number that fits."
    )
    return render(table, color) + "\n" + note
