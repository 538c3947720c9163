"""Every table fits the terminal it is printed on, and says what it leaves out."""

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from kvsim.i18n.language import plain, words
from kvsim.views.terminal.columns import LEAST_FIRST
from kvsim.views.terminal.fitting import fit, stack
from kvsim.views.terminal.screen import Screen
from kvsim.views.terminal.sheet import Column, Sheet
from kvsim.views.terminal.table import draw_sheet, lay_out
from tests.views.terminal.outputs import OUTPUTS, make

WIDTHS = (60, 80, 120)
NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]\d+)?")


def bare(text: str) -> str:
    """The text without blanks and without the lines of tables."""
    return re.sub(r"[\s│┌┐└┘├┤┬┴┼─|+-]", "", text)


def check_sheet(sheet: Sheet, drawn: str, screen: Screen) -> None:
    """`drawn` has every row of the table, cuts no number, and names every column that it leaves out."""
    fitted = fit(sheet, screen.width, screen.ascii_only)
    if fitted is None:
        assert set(LEAST_FIRST[sheet.name]) < {column.key for column in sheet.columns}
        for row in sheet.rows:
            assert all(bare(cell) in bare(drawn) for cell in row)
        return
    kept = [i for i, column in enumerate(sheet.columns) if column.key in {c.key for c in fitted.sheet.columns}]
    names = [sheet.columns[i].key for i in range(len(sheet.columns)) if i not in kept]
    assert sorted(names) == sorted(column.key for column in fitted.left_out)
    assert names == [] or set(names) == set(
        [key for key in LEAST_FIRST[sheet.name] if any(c.key == key for c in sheet.columns)][: len(names)]
    )
    assert all(bare(column.heading) in bare(drawn) for column in fitted.left_out)
    assert len(fitted.sheet.rows) == len(sheet.rows)
    for before, after in zip(sheet.rows, fitted.sheet.rows, strict=True):
        for i, cell in zip(kept, after, strict=False):
            check_cell(before[i], cell, sheet.columns[i])
            assert all(line in drawn for line in cell.split("\n"))
    assert sheet.gap in drawn or bare(sheet.gap) in bare(drawn)


def check_cell(before: str, after: str, column: Column) -> None:
    """A cell is whole, or its lines together are, or it is a text that lost an end."""
    if column.bend in ("tail", "cut") and after != before:
        assert "…" in after or "..." in after
        return
    assert "".join(before.split()) == "".join(after.split())
    assert NUMBER.findall(before) == [n for line in after.split("\n") for n in NUMBER.findall(line)]


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_fit(name):
    for language in ("en", "zh"):
        for ascii_only in (False, True):
            say = plain(words(language)) if ascii_only else words(language)
            parts = OUTPUTS[name](say, ascii_only)
            for width in WIDTHS:
                screen = Screen(width, ascii_only)
                text = lay_out(parts, say, screen)
                for line in text.split("\n"):
                    assert cell_len(line) <= width, line
                    assert "cells" in name or line.lstrip()[:1] not in tuple("，。、；：！？）》”"), line
                for part in parts:
                    if isinstance(part, Sheet):
                        check_sheet(part, text, screen)
                    elif isinstance(part, str):
                        assert bare(part) in bare(text)


def test_every_table_has_its_order_and_every_order_its_table():
    """LEAST_FIRST names columns that there are, and never all of them."""
    say, found = words("en"), set()
    for make_parts in OUTPUTS.values():
        for part in make_parts(say, False):
            if isinstance(part, Sheet):
                found.add(part.name)
                keys = {column.key for column in part.columns}
                assert set(LEAST_FIRST[part.name]) <= keys | {"refused"}, part.name
                assert keys - set(LEAST_FIRST[part.name])
    assert found == set(LEAST_FIRST)


def test_what_fits_is_the_same_at_any_width():
    say = words("en")
    for make_parts in OUTPUTS.values():
        parts = make_parts(say, False)
        anywhere = lay_out(parts, say, Screen())
        widest = max(map(cell_len, anywhere.split("\n")))
        assert lay_out(parts, say, Screen(widest)) == anywhere


SHEET = Sheet(
    "trace-memory",
    [
        Column("step", "step"),
        Column("tokens", "tokens"),
        Column("held", "held, B"),
        Column("allocated", "arrays allocated, B"),
    ],
    [["1", "2", "3", "1,234,567"], ["…"]],
)


def test_headings_wrap_before_a_column_is_left_out():
    say = words("en")
    assert draw_sheet(SHEET, say, Screen(44)).split("\n")[1:3] == [
        "│      │        │         │       arrays │",
        "│ step │ tokens │ held, B │ allocated, B │",
    ]  # fmt: skip
    text = draw_sheet(SHEET, say, Screen(40))
    assert "allocated, │" in text
    assert "Left out" not in text
    text = draw_sheet(SHEET, say, Screen(32))
    assert "1,234,567" not in text
    assert (
        "Left out at this width: arrays\nallocated, B. A wider terminal\nshows them; --json holds\neverything." in text
    )


def test_rows_become_lines_where_nothing_more_may_be_left_out():
    lines = stack(SHEET, words("en"), 20)
    assert draw_sheet(SHEET, words("en"), Screen(20)).split("\n") == lines
    assert lines == ["step: 1", "  tokens: 2", "  held, B: 3", "  arrays allocated,", "    B: 1,234,567", "step: …"]


def test_a_row_that_stands_for_others_is_told_below_if_its_text_is_cut():
    columns = [Column("step", "s"), Column("tokens", "t", bend="tail"), *SHEET.columns[2:]]
    sheet = replace(SHEET, gap="(12 steps not shown)", columns=columns, rows=[])
    sheet.add("…", sheet.gap)
    for width in (60, 40, 34):
        assert "(12 steps not shown)" in draw_sheet(sheet, words("en"), Screen(width))


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_rows_of_a_benchmark_that_are_printed_one_by_one_fit(width, language):
    from kvsim.views.terminal.bench import format_heading, format_point, format_sums

    bench, say, screen = make("bench"), words(language), Screen(width)
    rows = [format_point(point, bench, screen) for point in bench.points]
    text = "\n".join([format_heading(bench, say, screen), *rows, format_sums(bench, say, screen)])
    assert all(cell_len(line) <= width for line in text.split("\n"))
    assert len({cell_len(row) for row in rows}) == 1
    left_out = [say(name) for name in ("faster", "FLOPs", "read")] if width == 60 else [say("FLOPs")]
    note = say("Left out at this width: {columns}. A wider terminal shows them; --json holds everything.")
    assert bare(note.format(columns=say(", ").join(left_out))) in bare(text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_bars_fit(width, ascii_only):
    from kvsim.costs.work.by_context import Point
    from kvsim.views.terminal.bars import to_bars

    points = [Point(n, 10**15 + n * 10**12, n * 10**15) for n in (1, 64, 100_000)]
    text = to_bars(points, "square", words("zh"), Screen(width, ascii_only))
    assert all(cell_len(line) <= width for line in text.split("\n"))
    assert all(f"{p.cached:,}" in text and f"{p.uncached:,}" in text for p in points)
