"""Tokens in whole characters: one whose bytes are spread over several tokens is shown at the one that completes it."""

from kvsim.i18n.language import Say
from kvsim.i18n.printable import printable, show_token
from kvsim.text import complete

PART, ASCII_PART = "⋯", ".."  # stand for bytes of a character that a later token completes


class Reader:
    """Tokens read one after another."""

    def __init__(self, ascii_only: bool = False) -> None:
        self.ascii_only = ascii_only
        self.sign = ASCII_PART if ascii_only else PART
        self.pending = b""
        self.text = ""  # printable, in whole characters
        self.parts = False  # has a token been shown that ends inside a character?

    def _show(self, done: str, pending: bytes) -> str:
        self.parts |= bool(pending)
        return (show_token(done, self.ascii_only) if done else "") + (self.sign if pending else "")

    def read(self, piece: str) -> str:
        """The next token as it is shown."""
        done, self.pending = complete(self.pending, piece)
        self.text += printable(done, self.ascii_only)
        return self._show(done, self.pending)

    def look(self, piece: str) -> str:
        """How a token would be shown if it were next."""
        return self._show(*complete(self.pending, piece))

    def so_far(self, start: int = 0) -> str:
        """The text that was read, from its character `start` on, with a sign for an unfinished character."""
        return self.text[start:] + (self.sign if self.pending else "")

    def notes(self, say: Say) -> list[str]:
        """What the sign means, if it was shown."""
        text = say("{sign} stands for a part of a character; the token that completes it shows it.")
        return [text.format(sign=self.sign)] if self.parts else []
