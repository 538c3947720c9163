"""Text measured in terminal cells, and numbers as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kvsim.views.terminal.text import byte_line, cut, percent_saved, significant, tail


@given(st.text(), st.integers(4, 40), st.booleans())
def test_tail_fits_and_is_the_end(text, width, ascii_only):
    got = tail(text, width, ascii_only)
    assert cell_len(got) <= width
    assert text.endswith(got.removeprefix("..." if ascii_only else "…")) or got == text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(0, 0, "0%"), (4, 4, "0%"), (9, 3, "67%"), (140, 28, "80%"), (1000, 1, "99.9%"), (200, 1, "99.5%"),
     (10**6, 1, "99.9999%"), (7, 0, "100%"), (3, 4, "-33%")],
)  # fmt: skip
def test_percent_never_claims_all_while_something_is_left(before, after, said):
    assert percent_saved(before, after) == said


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("中华人民", 8, "中华人民"), ("中华人民", 7, "…华人民"), ("中华人民", 6, "…人民"), ("abc中", 4, "…c中")],
)  # fmt: skip
def test_tail_counts_cells(text, width, shown):
    assert tail(text, width) == shown


def test_cut_counts_cells():
    assert [cut("中华人民", 8), cut("中华人民", 7), cut("abc", 3)] == ["中华人民", "中华人…", "abc"]


def test_bytes_under_their_own_names():
    assert byte_line(2**31) == "2,147,483,648 B = 2 GiB = 2.15 GB"


def test_significant():
    assert [significant(x) for x in (0.0, 1.26e-5, 3.0)] == ["0", "1.3e-05", "3.0e+00"]
