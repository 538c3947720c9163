"""Text as a sequence of tokens, and the interface of a tokenizer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """One token of a text: its id and its part of the text."""

    id: int
    text: str
    known: bool = True  # False: outside the vocabulary, so the unknown token is fed


def one_line(text: str, most: int = 200) -> str:
    """`text` as one line of at most `most` characters for a `repr`: unprintable characters escaped; of a longer
    text the beginning, "..." and the last character."""
    line = _escape(text[: most + 1])
    return f"{line[: most - 4]}...{_escape(text[-1])[-1]}" if len(line) > most else line


def _escape(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def show_text(text: str | None, ids: Sequence[int], most: int = 40) -> str:
    """`text` in quotes, or where there is none the ids, in at most `most` characters."""
    return one_line(repr(list(ids[:most])) if text is None else repr(text[: most + 1]), most)


def find_unknown(pieces: Iterable[Piece]) -> list[str]:
    """The texts of unknown pieces, each once."""
    return list(dict.fromkeys(piece.text for piece in pieces if not piece.known))


class Tokenizer(Protocol):
    """The methods that kvsim needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, as Hugging Face's `tokenizer(text)`."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""

    def split(self, text: str) -> list[Piece]:
        """The tokens of a text, each with its part of the text as it was written."""

    def piece(self, id: int) -> str:
        """The text of one id."""
