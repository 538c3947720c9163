"""Errors that a caller can act on, each with its exit code of the command line.

A message is a template and its values, so that a view can translate the template:
`UsageError("expected {want}, got {got}", want=1, got=2)`. `str(error)` is the English text.
"""

import os
from typing import Any


class Words(str):
    """A value of a message that is itself text to translate: a template and its values, as of an error. As a string it
    is the English text."""

    template: str
    values: dict[str, object]

    def __new__(cls, template: str, **values: object) -> "Words":
        words = super().__new__(cls, template.format(**values) if values else template)
        words.template, words.values = template, values
        return words


def reason_of(error: ValueError) -> object:
    """Why, as a value of another message: `Words` that the error was raised with, otherwise its text on one line."""
    first = error.args[0] if error.args else ""
    return first if isinstance(first, Words) else _escape(str(error))


def _escape(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(value: object) -> str:
    """`repr(value)` on one line, cut to 78 characters if it is longer than 80; its type if it is nested too deeply for
    one, or a number of thousands of digits."""
    try:
        text = " ".join(line.strip() for line in repr(value).splitlines())
    except RecursionError:
        return f"<{type(value).__name__}: nested too deeply>"
    except ValueError:
        return f"<{type(value).__name__}: too long>"
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"


def plain(name: str) -> str:
    """A name from a file: as it is, or as `shortened` if it is long, empty, or would not print on one line."""
    return name if 0 < len(name) <= 80 and name.isprintable() else shortened(name)


def _shown(value: object) -> object:
    """A value in an English message: a path, whose name may hold a line end or a NUL, with these escaped."""
    return _escape(str(value)) if isinstance(value, os.PathLike) else value


class KvsimError(Exception):
    """The base of all errors of kvsim. The message says what was expected, what came, and what to do."""

    exit_code = 1

    def __init__(self, template: str, **values: object) -> None:
        self.template = template
        self.values = values
        super().__init__(template.format(**{name: _shown(value) for name, value in values.items()}))

    def __reduce__(self) -> Any:
        return _make, (type(self), self.template, self.values)


def _make(kind: type[KvsimError], template: str, values: dict[str, object]) -> KvsimError:
    """Rebuild an error that was pickled or copied."""
    return kind(template, **values)


class UsageError(KvsimError, ValueError):
    """An invalid argument (exit 2)."""

    exit_code = 2


class BackendError(KvsimError, ImportError):
    """The requested array library is not installed or does not work (exit 3)."""

    exit_code = 3


class FileError(KvsimError, ValueError):
    """A file that cannot be read or written, or whose content is invalid (exit 4)."""

    exit_code = 4


class OtherThreadsWarning(UserWarning):
    """Warning: a ledger lacks products that other threads ran while it was open."""
