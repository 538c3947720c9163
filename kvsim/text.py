"""Text as a model sees it: pieces, and what a tokenizer must offer."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """One token of a text: its id, and the text that it stands for."""

    id: int
    text: str
    known: bool = True  # False: fed as the unknown token


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
