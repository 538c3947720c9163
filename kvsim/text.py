"""Text as a sequence of tokens, and the interface of a tokenizer."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """One token of a text: its id and its part of the text."""

    id: int
    text: str
    known: bool = True  # False: outside the vocabulary, so the unknown token is fed


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
