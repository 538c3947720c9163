"""Text made safe to print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.i18n.printable import printable, show_end, show_token


@given(st.text())
def test_nothing_printed_moves_the_cursor(text):
    shown = printable(text)
    assert shown.isprintable()
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", "a↵b"), ("\x1b[2J", "\\x1b[2J"), ("\u202e", "\\u202e"), ("e\u0301", "e\\u0301"), ("中 文", "中 文")],
)
def test_printable(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(("piece", "shown"), [(" ", "␣"), ("  ", "␣␣"), (" a", " a"), ("\n", "↵")])
def test_a_blank_token_can_be_seen(piece, shown):
    assert show_token(piece) == shown


def test_blanks_at_the_end_can_be_seen():
    assert [show_end("a b  "), show_end("  ", ascii_only=True), show_end("ab")] == ["a b␣␣", "__", "ab"]
