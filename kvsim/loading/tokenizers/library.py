"""Tokenizers of Hugging Face's `tokenizers` library (extra hf), and the process in which kvsim runs them.

The library is not made for hostile files: some make it panic, run out of memory, which ends the process, or match a
regular expression for hours. `main` is that process: it takes a tokenizer.json, then texts and ids.
"""

import codecs
import json
import re
import signal
from pathlib import Path
from typing import Any

from kvsim.processes.channel import Channel
from kvsim.processes.child import own_end
from kvsim.text import Piece, one_line

MEGABYTE = 2**20
SPACE = 128 * MEGABYTE  # of memory for any tokenizer
FILE_SPACE = 40  # and for each byte of its file: three times what a vocabulary of 49,152 takes
TEXT_SPACE = 800  # and for each byte of a text: three times what its pieces take
SECONDS = 0.5  # of processor time for any request
FILE_SPEED = 1_000_000  # bytes of a file in a second of processor time: a thirtieth of what was measured
TEXT_SPEED = 30_000  # bytes of a text in a second: a ninth of what was measured for pieces of Chinese
MOST_SPACE = 1024 * MEGABYTE  # for a file of any size
MOST_SECONDS = 40.0  # of processor time, likewise
REQUEST = 2**30  # bytes


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's mapping of bytes to characters: printable bytes map to themselves, the others to code points from 256."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(others)}


class LibraryTokenizer:
    """A tokenizer of Hugging Face's `tokenizers` library, of any kind."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.no_truncation()  # saved settings that transformers' `tokenizer(text)` does not apply
        library.no_padding()
        self._special = {i for i, token in library.get_added_tokens_decoder().items() if token.special}
        self._bytes = _byte_alphabet()

    def encode(self, text: str) -> list[int]:
        return list(self._library.encode(text).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._library.decode(ids, skip_special_tokens=False))

    def split(self, text: str) -> list[Piece]:
        """Each token with its part of the text; with its own text where that part is empty or shared with a
        neighbour."""
        encoding = self._library.encode(text)
        ranges = list(encoding.offsets)
        pieces = []
        for n, (i, (start, stop)) in enumerate(zip(encoding.ids, ranges, strict=True)):
            before, after = ranges[max(n - 3, 0) : n], ranges[n + 1 : n + 4]
            shared = any(s < stop and start < e for s, e in (*before, *after))
            alone = shared or start == stop
            pieces.append(Piece(i, self.piece(i) if alone else text[start:stop]))
        return pieces

    def piece(self, id: int) -> str:
        """The text of one id; bytes that are no whole character as <0xE4>."""
        token = self._library.id_to_token(id)
        if token is None:
            return f"[{id}]"  # a row of the embedding that no token uses
        if id in self._special or re.fullmatch("<0x[0-9A-F]{2}>", token):
            return str(token)
        text = self.decode([id])
        if "\ufffd" in text and all(c in self._bytes for c in token):
            raw = bytes(self._bytes[c] for c in token)
            return raw.decode("utf-8", errors="kvsim.bytes")
        # SentencePiece marks the blank before a word; decoding a single token would drop it.
        return f" {token[1:]}" if token.startswith("\u2581") and not text.startswith(" ") else text


def _show_bytes(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no character, written as <0xE4>."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"<0x{byte:02X}>" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("kvsim.bytes", _show_bytes)


def _limit_space(size: int) -> None:
    """Let this process grow by SPACE and `size` bytes more; beyond that the library ends it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # a system without limits, or without this file
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    most, hard = pages * resource.getpagesize() + SPACE + size, resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _limit_time(seconds: float) -> None:
    """Limit this process to that many seconds of processor time, after which SIGPROF ends it. 0: no limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _answer(channel: Channel, run: Any) -> Any:
    """Send the result of `run()`, or why it failed. Returns the result; None if it failed."""
    try:
        found = run()
    except BaseException as error:  # a panic is none of Exception's kinds
        channel.send(json.dumps({"failed": one_line(str(error) or type(error).__name__)}).encode())
        return None
    finally:
        _limit_time(0)
    return found


def _load(definition: bytes) -> LibraryTokenizer:
    from tokenizers import Tokenizer

    _limit_space(min(FILE_SPACE * len(definition), MOST_SPACE))
    _limit_time(min(SECONDS + len(definition) / FILE_SPEED, MOST_SECONDS))
    return LibraryTokenizer(Tokenizer.from_str(definition.decode("utf-8-sig")))


def main(arguments: list[str]) -> None:
    """Serve one tokenizer until the other end closes. Requests: the bytes of a tokenizer.json, then
    {"do": a method of LibraryTokenizer, "with": its argument}; answers: {"is": the result} or {"failed": why}."""
    channel = own_end()
    definition = channel.receive(REQUEST)
    tokenizer = _answer(channel, lambda: _load(definition))
    if tokenizer is None:
        return
    channel.send(b'{"is": null}')
    while True:
        try:
            request = channel.receive(REQUEST)
        except EOFError:
            return
        asked = json.loads(request)
        _limit_space(TEXT_SPACE * len(request))
        _limit_time(SECONDS + len(request) / TEXT_SPEED)
        found = _answer(channel, lambda asked=asked: (getattr(tokenizer, asked["do"])(asked["with"]),))
        if found is not None:
            channel.send(json.dumps({"is": found[0]}).encode())
