"""The errors that a caller can act on, each with the exit code of the command line.

A message is a template and its values, so that a view can translate the template:
`UsageError("expected {want}, got {got}", want=1, got=2)`. `str(error)` is the English text.
"""

from typing import Any


class Words(str):
    """A value of a message that is language itself, to be translated with it."""


def shortened(value: object) -> str:
    """`repr(value)`, cut where it is long: an error shows what came, not all of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"


class KvsimError(Exception):
    """Something kvsim was asked that it cannot do: what was expected, what came, what to do."""

    exit_code = 1

    def __init__(self, template: str, **values: object) -> None:
        self.template = template
        self.values = values
        super().__init__(template.format(**values))

    def __reduce__(self) -> Any:
        return _make, (type(self), self.template, self.values)


def _make(kind: type[KvsimError], template: str, values: dict[str, object]) -> KvsimError:
    """An error that was pickled or copied."""
    return kind(template, **values)


class UsageError(KvsimError, ValueError):
    """An argument that makes no sense (exit 2)."""

    exit_code = 2


class BackendError(KvsimError, ImportError):
    """The array library asked for is not there or does not work (exit 3)."""

    exit_code = 3


class FileError(KvsimError, ValueError):
    """A file that cannot be read as what it claims to be (exit 4)."""

    exit_code = 4


class OtherThreadsWarning(UserWarning):
    """A ledger that is read lacks products which other threads ran while it was open."""
