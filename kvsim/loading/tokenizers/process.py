"""A tokenizer that a child process runs: no file can end, halt or fill the process that loads it."""

import json
import os
import signal
import subprocess
import weakref
from pathlib import Path
from threading import RLock
from typing import Any

from kvsim.checks import check_text, check_token_ids
from kvsim.errors import FileError, UsageError, Words
from kvsim.processes.channel import FrameError
from kvsim.processes.child import Child, end_child, start_child
from kvsim.text import Piece

_ANSWER = 2**26  # bytes, and for each byte of a request:
_ANSWER_A_BYTE = 256
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}  # a backtrace takes 0.1 s


def _check(text: str) -> str:
    """The text itself. UsageError: no text, or half a character in it."""
    try:
        check_text("text", text).encode()
    except UnicodeEncodeError as error:
        raise UsageError("the text is not valid UTF-8") from error
    return text


class _FailedError(Exception):
    """The library, or its process, failed; the argument says why."""


class ProcessTokenizer:
    """A tokenizer of any kind that Hugging Face's `tokenizers` library reads, run by a child process.

    `definition`: the bytes of a tokenizer.json; `path`: where they come from; `vocab_size`: of the model. The process
    has limits on memory and processor time in proportion to them and to each text. It is started again after it has
    ended, and in a copy of this object.

    FileError: the library cannot read the definition, or, of any method, fails on what it is given, or gives an id that
    the model does not have.
    """

    def __init__(self, definition: bytes, path: Path, vocab_size: int) -> None:
        self._definition, self._path, self._vocab_size = definition, path, vocab_size
        self._lock = RLock()
        self._child: Child | None = None
        with self._lock:
            self._running()

    def encode(self, text: str) -> list[int]:
        """The ids of a text. UsageError: it holds half of a character of two, as bytes that are not UTF-8 leave it."""
        return self._known(list(self._ask("encode", _check(text))))

    def decode(self, ids: list[int]) -> str:
        return str(self._ask("decode", check_token_ids(ids)))

    def split(self, text: str) -> list[Piece]:
        """Each token with its part of the text; with its own text where that part is empty or shared with a
        neighbour. UsageError: as of `encode`."""
        pieces = [Piece(*piece) for piece in self._ask("split", _check(text))]
        self._known([piece.id for piece in pieces])
        return pieces

    def piece(self, id: int) -> str:
        """The text of one id; bytes that are no whole character as <0xE4>."""
        return str(self._ask("piece", check_token_ids([id])[0]))

    def __reduce__(self) -> Any:
        return type(self), (self._definition, self._path, self._vocab_size)

    def _known(self, ids: list[int]) -> list[int]:
        """The ids. FileError: the model has no such row."""
        if ids and max(ids) >= self._vocab_size:
            raise FileError("the tokenizer {path} gives the id {id}, and the model has {count}", path=self._path,
                            id=max(ids), count=self._vocab_size)  # fmt: skip
        return ids

    def _ask(self, method: str, argument: Any) -> Any:
        """The result of a method of LibraryTokenizer."""
        request = json.dumps({"do": method, "with": argument}).encode()
        with self._lock:
            try:
                return self._exchange(self._running(), request)
            except _FailedError as error:
                raise FileError(
                    "the tokenizer {path} failed: {reason}", path=self._path, reason=error.args[0]
                ) from error

    def _running(self) -> Child:
        """The child, with the tokenizer loaded."""
        if self._child is not None and self._child.owner == os.getpid():
            return self._child
        try:
            nowhere, environment = subprocess.DEVNULL, os.environ | _ENVIRONMENT
            child = start_child("kvsim.loading.tokenizers.library", stdout=nowhere, stderr=nowhere, env=environment)
            self._end = weakref.finalize(self, end_child, child)
            self._exchange(child, self._definition)
        except (_FailedError, OSError) as error:
            reason = error.args[0] if isinstance(error, _FailedError) else error.strerror or error
            raise FileError("cannot read {path} as a tokenizer: {reason}", path=self._path, reason=reason) from error
        self._child = child
        return child

    def _exchange(self, child: Child, request: bytes) -> Any:
        """Send a request and return the answer. _FailedError: the child refuses, or ends. After an interruption, such
        as Ctrl-C, the child is ended, because its answer is still to come."""
        whole = False
        try:
            child.channel.send(request)
            answer = json.loads(child.channel.receive(_ANSWER + _ANSWER_A_BYTE * len(request)))
            whole = True
        except (EOFError, FrameError, ConnectionError) as error:
            raise _FailedError(_why_ended(child)) from error
        finally:
            if not whole:
                self._end()
                self._child = None
        if "failed" in answer:
            raise _FailedError(answer["failed"])
        return answer["is"]


def _why_ended(child: Child) -> Words:
    """Why the child ended, or was ended."""
    if end_child(child) == -getattr(signal, "SIGPROF", 0):
        return Words("it takes more processor time than a tokenizer needs")
    return Words("its process ended, probably for lack of memory")
