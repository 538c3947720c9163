"""Text as a model sees it: pieces, and what a tokenizer must offer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """One token of a text: its id, and the text that it stands for."""

    id: int
    text: str
    known: bool = True  # False: fed as the unknown token


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
    """Those that the model has never seen, each once."""
    return list(dict.fromkeys(piece.text for piece in pieces if not piece.known))


class Tokenizer(Protocol):
    """What a model asks of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, as Hugging Face's `tokenizer(text)`."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""

    def split(self, text: str) -> list[Piece]:
        """The tokens of a text, each with its part of the text as it was written."""

    def piece(self, id: int) -> str:
        """The text of one id."""
