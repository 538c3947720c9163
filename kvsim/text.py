"""Text as a sequence of tokens, and the interface of a tokenizer."""

import re
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


_BYTES = re.compile("((?:<0x[0-9A-F]{2}>)+)")  # as `Tokenizer.piece` writes bytes that are no whole character


def write_bytes(raw: bytes) -> str:
    """Bytes that are no character, as "<0xE4><0xBD>"."""
    return "".join(f"<0x{byte:02X}>" for byte in raw)


def _read_bytes(raw: bytes) -> tuple[str, bytes]:
    """The characters of UTF-8 bytes, those of no character written as <0xFF>; and the bytes at the end that begin a
    character."""
    text = ""
    while raw:
        try:
            return text + raw.decode(), b""
        except UnicodeDecodeError as error:
            text += raw[: error.start].decode()
            if error.reason == "unexpected end of data":
                return text, raw[error.start :]
            text, raw = text + write_bytes(raw[error.start : error.end]), raw[error.end :]
    return text, b""


def complete(pending: bytes, piece: str) -> tuple[str, bytes]:
    """The characters that a token completes, after `pending` bytes of the tokens before, and the bytes of a character
    that it leaves to later tokens. `piece` is exact: bytes that are no whole character are written as <0xE4>."""
    done = ""
    for i, part in enumerate(_BYTES.split(piece)):
        if i % 2:
            text, pending = _read_bytes(pending + bytes.fromhex(part.replace("<0x", "").replace(">", "")))
            done += text
        elif part:
            done, pending = done + write_bytes(pending) + part, b""
    return done, pending


def join_pieces(pieces: Iterable[str]) -> str:
    """The text of tokens in whole characters; bytes that are left over at the end are written as <0xE4>."""
    text, pending = "", b""
    for piece in pieces:
        done, pending = complete(pending, piece)
        text += done
    return text + write_bytes(pending)


class Tokenizer(Protocol):
    """The methods that kvsim needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, as Hugging Face's `tokenizer(text)`."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""

    def split(self, text: str) -> list[Piece]:
        """The tokens of a text, each with its part of the text as it was written."""

    def piece(self, id: int) -> str:
        """The text of one id; bytes that are no whole character as <0xE4>."""
