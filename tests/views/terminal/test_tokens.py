"""Characters whose bytes are spread over several tokens are shown whole, at the token that completes them."""

import copy
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvsim
from kvsim.i18n.language import words
from kvsim.text import Piece, complete, join_pieces
from kvsim.views.picture.trace import draw_steps
from kvsim.views.terminal.cells import format_cells
from kvsim.views.terminal.screen import Screen
from kvsim.views.terminal.tokens import Reader
from kvsim.views.terminal.trace import format_trace


def exact(raw: bytes) -> str:
    """The piece of a token of these bytes, as tokenizers give it: bytes of no whole character as <0xE4>."""
    text = raw.decode("utf-8", "surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else c for c in text)


class ByteTokenizer:
    """One token a byte, as a byte-level tokenizer without merges."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(i % 256 for i in ids).decode(errors="replace")

    def piece(self, id: int) -> str:
        return exact(bytes([id % 256]))

    def split(self, text: str) -> list[Piece]:
        return [Piece(i, self.piece(i)) for i in self.encode(text)]


TEXTS = st.text(st.sampled_from("ab你好，é🙂\n"), max_size=12)


@given(TEXTS, st.data())
def test_text_cut_anywhere_is_read_back(text, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)))) | {0, len(raw)})
    pieces = [exact(raw[a:b]) for a, b in pairwise(cuts)]
    assert join_pieces(pieces) == text
    reader = Reader()
    shown = [reader.read(piece) for piece in pieces]
    assert not any("<0x" in token for token in shown)
    assert "".join(shown).replace("⋯", "").replace("↵", "\n") == text
    assert reader.so_far().replace("↵", "\n") == text


@given(st.binary(max_size=12), st.integers(1, 4))
def test_any_bytes_are_read_and_none_is_lost(raw, size):
    pieces = [exact(raw[i : i + size]) for i in range(0, len(raw), size)]
    assert join_pieces(pieces) == exact(raw)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["<0xE4>", "<0xBD>", "<0xA0>", "好"], ["⋯", "⋯", "你", "好"]),
        (["<0xE4><0xBD>", "<0xA0><0xE5>", "<0xA5><0xBD>!"], ["⋯", "你⋯", "好!"]),
        (["a<0xE4>", "b"], ["a⋯", "<0xE4>b"]),  # never completed: the byte is shown with what came instead
        (["<0xFF>", "<0x0A>", " "], ["<0xFF>", "↵", "␣"]),
    ],
)
def test_examples(pieces, shown):
    reader = Reader()
    assert [reader.read(piece) for piece in pieces] == shown
    ascii_reader = Reader(ascii_only=True)
    assert ascii_reader.read("<0xE4>") == ".."
    assert ascii_reader.notes(words("en"))
    assert not Reader().notes(words("en"))


def test_a_choice_that_breaks_a_character_is_shown_without_it():
    reader = Reader()
    reader.read("<0xE4>")
    assert [reader.look("b"), reader.look("<0xBD>"), reader.look("<0xE5>")] == ["b", "⋯", "⋯"]
    assert reader.read("<0xBD>") == "⋯"
    assert reader.read("<0xA0>") == "你"


def test_bytes_that_only_look_like_one_character_stay_text():
    assert complete(b"", "<0xZZ> 0xE4 <0xe4>") == ("<0xZZ> 0xE4 <0xe4>", b"")


@pytest.fixture(scope="module")
def trace():
    model = copy.copy(kvsim.load("demo"))
    model.tokenizer = ByteTokenizer()
    return kvsim.trace("你好", model, 1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_trace_shows_whole_characters(trace, language):
    say = words(language)
    rows = [line.split("│")[2].strip() for line in format_trace(trace, say).splitlines() if line.startswith("│")]
    assert rows[1:7] == ["⋯", "⋯", "你", "你⋯", "你⋯", "你好"]
    assert say("{sign} stands for a part of a character; the token that completes it shows it.").format(
        sign="⋯"
    ) in format_trace(trace, say)
    drawn = format_cells(trace, say, 6)
    assert "⋯" in drawn
    assert "你" in drawn
    assert "<0x" not in drawn.split("   ")[-1]
    assert ".." in format_cells(trace, say, 6, Screen(ascii_only=True))
    assert repr(trace).startswith("<kvsim.Trace '你好")


def test_a_picture_shows_whole_characters(trace):
    drawn = draw_steps(trace, words("en"))
    assert "⋯" in drawn
    assert "好" in drawn


def test_json_keeps_exact_pieces(trace):
    fed = json.loads(trace.to_json())["fed"]
    assert fed == ["<0xE4>", "<0xBD>", "<0xA0>", "<0xE5>", "<0xA5>", "<0xBD>"]
