"""Tokens in whole characters: one whose bytes are spread over several tokens is shown at the one that completes it."""

from typing import NamedTuple

from kvsim.comparisons.trace_record import Trace, TraceStep
from kvsim.i18n.language import Say
from kvsim.i18n.printable import printable, show_token
from kvsim.text import complete, write_bytes

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
        """How a token would be shown if it were next; without bytes before it that it does not go on with."""
        done, pending = complete(self.pending, piece)
        return self._show(done.removeprefix(write_bytes(self.pending)), pending)

    def so_far(self, start: int = 0) -> str:
        """The text that was read, from its character `start` on, with a sign for an unfinished character."""
        return self.text[start:] + (self.sign if self.pending else "")

    def notes(self, say: Say) -> list[str]:
        """What the sign means, if it was shown."""
        text = say("{sign} stands for a part of a character; the token that completes it shows it.")
        return [text.format(sign=self.sign)] if self.parts else []


class StepTokens(NamedTuple):
    """The tokens of one step, as they are shown."""

    names: list[str]  # of all tokens that were fed up to the step
    fed: str  # those of the step together
    next: str
    reader: Reader


def read_step(trace: Trace, step: TraceStep, ascii_only: bool = False) -> StepTokens:
    """The tokens up to a step of a trace."""
    reader = Reader(ascii_only)
    names, start = [], 0
    for each in trace.steps[: step.number]:
        start = len(reader.text)
        names += [reader.read(piece.text) for piece in each.fed]
    fed = reader.so_far(start)
    return StepTokens(names, fed if fed.strip() else show_token(fed, ascii_only), reader.look(step.next.text), reader)
