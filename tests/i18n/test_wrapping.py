"""Lines of text: none too wide, nothing lost, and Chinese punctuation where it belongs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kvsim.i18n.wrapping import CLOSING, OPENING, units, wrap

# Words, numbers and Chinese with punctuation, which stand beside each other with and without spaces.
PARTS = st.sampled_from(
    [
        "缓存",
        "键值",
        "的",
        "cache",
        "12,345.6",
        "KV",
        "，",
        "。",
        "（",
        "）",
        "《",
        "》",
        "“",
        "”",
        "、",
        " ",
        "  ",
        "QKᵀ",
        "×",
        "%",
    ]
)
SENTENCES = st.lists(PARTS, max_size=40).map("".join)


def bare(text: str) -> str:
    return text.replace(" ", "")


@given(SENTENCES, st.sampled_from([12, 20, 60, 80, 120]), st.sampled_from([None, 0, 4]))
def test_lines_fit_and_nothing_is_lost(text, width, hang):
    lines = wrap(text, width, hang)
    assert all(cell_len(line) <= width for line in lines)
    assert bare("".join(lines)) == bare(text)


@given(SENTENCES, st.sampled_from([24, 60, 80]))
def test_no_line_begins_with_closing_punctuation_or_ends_with_an_opening_bracket(text, width):
    """Unless the text does so itself, or has no other place to break on a whole line."""
    if any(cell_len(unit) > width for _, unit in units(text)):
        return
    lines = wrap(text, width)
    if len(lines) > 1:
        firsts = {line.lstrip(" ")[0] for line in lines[1:]}
        assert not {c for c in firsts & CLOSING if not c.isascii() or f" {c}" not in text}
        assert not any(line.rstrip(" ")[-1] in OPENING for line in lines[:-1])


@given(SENTENCES, st.sampled_from([24, 60, 80]))
def test_no_number_and_no_word_is_cut(text, width):
    if any(cell_len(unit) > width for _, unit in units(text)):
        return
    pattern = re.compile(r"[A-Za-z0-9,.]*[A-Za-z0-9]")
    assert [w for line in wrap(text, width) for w in pattern.findall(line)] == pattern.findall(text)


@given(st.text(), st.integers(2, 40))
def test_any_text_in_any_width(text, width):
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert bare("".join(lines)) == bare(text)


@given(SENTENCES, st.integers(0, 30))
def test_what_fits_stays_as_it_is(text, more):
    assert wrap(text, cell_len(text) + more) == wrap(text, None) == [text]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("缓存命中，少算四行。", 8, ["缓存命", "中，少算", "四行。"]),
        ("一共16。", 7, ["一共", "16。"]),
        ("一共（16）个", 8, ["一共", "（16）个"]),
        ("  KV cache in float16", 12, ["  KV cache", "    in", "    float16"]),
        ("a 1,234,567 b", 9, ["a", "1,234,567", "b"]),
        ("path/of/a/very/long/name", 10, ["path/of/a/", "very/long/", "name"]),
        ("0123456789abc123456789", 11, ["0123456789a", "bc123456789"]),
        ("0123456789a123456789", 12, ["0123456789a", "123456789"]),
    ],
)
def test_examples(text, width, lines):
    assert wrap(text, width) == lines
