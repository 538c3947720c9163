"""Text to ids and back, from a tokenizer.json.

WordLevel over single characters (the demo model's) is implemented here, because it needs only a table. Every other
kind is read by the `tokenizers` library (extra `hf`).
"""

import codecs
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kvsim.checks import check_list, check_text, check_whole
from kvsim.errors import FileError
from kvsim.loading.json_file import read_json
from kvsim.text import Piece, Tokenizer

LAST = 2**32 - 1  # the largest id of the library
_ANY_CHARACTER = r"[\s\S]"


def _check_ids(ids: Any) -> list[int]:
    """Ids of tokens as ints, those outside the vocabulary included. UsageError: anything but a list of them."""
    return [i if type(i) is int and 0 <= i <= LAST else check_whole("id", i, 0, LAST) for i in check_list("ids", ids)]


class CharacterTokenizer:
    """One token a character; a character outside the vocabulary is fed as the unknown token."""

    def __init__(self, vocab: dict[str, int], unknown: str, special: list[str]) -> None:
        self.vocab = vocab
        self.unknown = vocab[unknown]
        self.special = sorted(special, key=len, reverse=True)
        self._pieces = {i: piece for piece, i in vocab.items()}

    def _parts(self, text: str) -> list[str]:
        """Splits a text into special tokens and single characters."""
        parts, at = [], 0
        while at < len(text):
            whole = next((s for s in self.special if text.startswith(s, at)), text[at])
            parts.append(whole)
            at += len(whole)
        return parts

    def split(self, text: str) -> list[Piece]:
        parts = self._parts(check_text("text", text))
        return [Piece(self.vocab.get(p, self.unknown), p, p in self.vocab) for p in parts]

    def encode(self, text: str) -> list[int]:
        return [piece.id for piece in self.split(text)]

    def piece(self, id: int) -> str:
        return self.decode([id])

    def decode(self, ids: list[int]) -> str:
        # [ID]: a row of the embedding that no token uses
        return "".join([self._pieces.get(i, f"[{i}]") for i in _check_ids(ids)])


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

    @classmethod
    def from_file(cls, path: Path) -> "LibraryTokenizer":
        """A tokenizer.json of any kind. FileError: the library cannot read it."""
        from tokenizers import Tokenizer as Library

        try:
            return cls(Library.from_file(str(path)))
        except Exception as error:  # the library raises plain Exception
            raise FileError("cannot read {path} as a tokenizer: {reason}", path=path, reason=error) from error

    def encode(self, text: str) -> list[int]:
        return list(self._library.encode(check_text("text", text)).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._library.decode(_check_ids(ids), skip_special_tokens=False))

    def split(self, text: str) -> list[Piece]:
        """Each token with its part of the text; with its own text where that part is empty or shared with a
        neighbour."""
        encoding = self._library.encode(check_text("text", text))
        ranges = list(encoding.offsets)
        pieces = []
        for n, (i, (start, stop)) in enumerate(zip(encoding.ids, ranges, strict=True)):
            before, after = ranges[:n], ranges[n + 1 :]
            shared = any(s < stop and start < e for s, e in (*before[-3:], *after[:3]))
            alone = shared or start == stop
            pieces.append(Piece(i, self.piece(i) if alone else text[start:stop]))
        return pieces

    def piece(self, id: int) -> str:
        """The text of one id; bytes that are no whole character as <0xE4>."""
        token = self._library.id_to_token(_check_ids([id])[0])
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


def _is_character_level(facts: dict[str, Any]) -> bool:
    """Is it WordLevel over single characters, without normaliser or post-processor?"""
    model, split, decoder = (facts.get(key) or {} for key in ("model", "pre_tokenizer", "decoder"))
    return bool(
        model.get("type") == "WordLevel"
        and facts.get("normalizer") is None
        and facts.get("post_processor") is None
        and split.get("type") == "Split"
        and (split.get("pattern") or {}).get("Regex") == _ANY_CHARACTER
        and split.get("behavior") == "Isolated"
        and split.get("invert") is False
        and decoder.get("type") == "Fuse"
    )


def _read_characters(path: Path, facts: dict[str, Any], vocab_size: int) -> CharacterTokenizer:
    vocab, unknown = facts["model"].get("vocab"), facts["model"].get("unk_token")
    if not isinstance(vocab, dict) or not all(type(i) is int and 0 <= i < vocab_size for i in vocab.values()):
        raise FileError("{path}: its vocabulary must map tokens to ids below {size}", path=path, size=vocab_size)
    if len(set(vocab.values())) < len(vocab):
        raise FileError("{path}: two tokens of its vocabulary have one id", path=path)
    if unknown not in vocab:
        raise FileError("{path}: its unknown token {token} is not in its vocabulary", path=path, token=repr(unknown))
    added = [token.get("content") for token in facts.get("added_tokens") or []]
    if any(token not in vocab or not token for token in added):
        raise FileError("{path}: its added tokens are not in its vocabulary", path=path)
    return CharacterTokenizer(vocab, unknown, added)


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer in a tokenizer.json; None if there is no such file (ids still work).

    FileError: not a tokenizer, or one whose kind needs the extra `hf`, which is not installed.
    """
    if not os.path.lexists(path):
        return None
    facts = read_json(path)
    try:
        if _is_character_level(facts):
            return _read_characters(path, facts, vocab_size)
    except (AttributeError, TypeError, KeyError) as error:
        raise FileError("{path} has not the fields of a tokenizer.json: make it anew", path=path) from error
    if find_spec("tokenizers") is None:
        raise FileError(
            '{path} is a tokenizer of a kind that needs the extra hf: pip install ".[hf]" in a clone of kvsim',
            path=path,
        )
    return LibraryTokenizer.from_file(path)
