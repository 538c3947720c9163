"""The rows of a sweep as CSV, and as a table on a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence

from kvsim.costs.plans.planning import READINGS
from kvsim.costs.plans.sweep import COLUMNS, Row
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import printable
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out


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


def sweep_parts(rows: Sequence[Row], say: Say) -> list[Part]:
    """The table with one line for each row. Its columns are a selection of the CSV's, with the same names."""
    names = [name for name in SHOWN if name != "refused" or any(row[-1] is not None for row in rows)]
    places = [COLUMNS.index(name) for name in names]
    columns = [
        Column(name, name, "left" if name in TEXTS else "right", bend="wrap" if name == "refused" else "whole")
        for name in names
    ]
    table = Sheet("sweep", columns, [[_cell(row[place]) for place in places] for row in rows])
    note = say(
        "spare: bytes left beside the weights and the whole batch (below 0: missing); requests: the number that fits."
    )
    return [table, note]


def format_sweep(rows: Sequence[Row], say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim plan --sweep`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(sweep_parts(rows, say), say, screen)
