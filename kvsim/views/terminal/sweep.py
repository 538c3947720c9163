"""The rows of a sweep, told: a table, CSV, JSON."""

import csv
import io
import json
from collections.abc import Iterable, Sequence

from kvsim import __version__
from kvsim.costs.plans.planning import READINGS
from kvsim.costs.plans.sweep import COLUMNS, Row
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import printable
from kvsim.views.terminal.table import Column, make_table, render


def to_csv(rows: Iterable[Row]) -> str:
    """A heading and a line for each row (RFC 4180, but lines end as in Unix); what is not known is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """`kvsim.plan-sweep/1`: columns, and rows in their order."""
    told = {"schema": "kvsim.plan-sweep/1", "kvsim": __version__, "columns": COLUMNS, "rows": rows}
    return json.dumps(told, ensure_ascii=False, allow_nan=False)


def _cell(value: object) -> str:
    """An integer with its thousands parted."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))


TEXTS = ("model", "dtype", "cache_dtype", "device", "refused")
SHOWN = (
    *COLUMNS[:10], *(f"{reading}_{what}" for what in ("spare", "requests") for reading in READINGS), "refused",
)  # fmt: skip


def tell_sweep(rows: Sequence[Row], say: Say, ascii_only: bool = False, color: bool = False) -> str:
    """A line for each row; the columns have the names of the CSV's, which has more of them."""
    say = plain(say) if ascii_only else say
    names = [name for name in SHOWN if name != "refused" or any(row[-1] is not None for row in rows)]
    places = [COLUMNS.index(name) for name in names]
    columns: list[Column] = [(name, "", "left" if name in TEXTS else "right") for name in names]
    table = make_table(columns, ascii_only, footer=False)
    for row in rows:
        table.add_row(*(_cell(row[place]) for place in places))
    note = say("spare: bytes left beside weights and the whole batch, below 0: missing; requests: as many as fit.")
    return render(table, color) + "\n" + note
