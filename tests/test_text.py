"""Text shortened to one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.text import one_line, show_text


@given(st.text(max_size=300), st.integers(5, 100))
def test_one_line_of_at_most(text, most):
    line = one_line(text, most)
    assert len(line) <= most
    assert len(line.splitlines()) <= 1
    assert line.isprintable()
    if text.isprintable():
        assert line == (text if len(text) <= most else f"{text[: most - 4]}...{text[-1]}")


@pytest.mark.parametrize(
    ("text", "ids", "shown"),
    [
        ("a\nb", [1], r"'a\nb'"),
        ("a" * 38, [], "'" + "a" * 38 + "'"),
        ("a" * 39, [], "'" + "a" * 35 + "...'"),
        ("a" * 10**6, [], "'" + "a" * 35 + "...'"),
        (None, [1, 2, 3], "[1, 2, 3]"),
        (None, range(10**6), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1...]"),
    ],
)
def test_text_in_quotes_or_ids(text, ids, shown):
    assert show_text(text, ids) == shown
