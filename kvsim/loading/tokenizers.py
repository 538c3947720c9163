"""Text to ids and back, from a tokenizer.json.

One kind is read here, because it needs no more than a table: WordLevel over single characters (the
demo model's). Every other kind is left to the `tokenizers` library (extra `hf`).
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kvsim.errors import FileError, UsageError
from kvsim.loading.json_file import read_json
from kvsim.text import Piece, Tokenizer

_ANY_CHARACTER = r"[\s\S]"


class CharacterTokenizer:
    """One token a character; a character outside the vocabulary is fed as the unknown token."""

    def __init__(self, vocab: dict[str, int], unknown: str, special: list[str]) -> None:
        self.vocab = vocab
        self.unknown = vocab[unknown]
        self.special = sorted(special, key=len, reverse=True)
        self._pieces = {i: piece for piece, i in vocab.items()}

    def _parts(self, text: str) -> list[str]:
        """Special tokens whole, everything else character by character."""
        parts, at = [], 0
        while at < len(text):
            whole = next((s for s in self.special if text.startswith(s, at)), text[at])
            parts.append(whole)
            at += len(whole)
        return parts

    def split(self, text: str) -> list[Piece]:
        return [Piece(self.vocab.get(p, self.unknown), p, p in self.vocab) for p in self._parts(text)]

    def encode(self, text: str) -> list[int]:
        return [piece.id for piece in self.split(text)]

    def piece(self, id: int) -> str:
        return self._pieces.get(id, f"[{id}]")  # a row of the embedding that no token uses

    def decode(self, ids: list[int]) -> str:
        return "".join(map(self.piece, ids))


class LibraryTokenizer:
    """A tokenizer.json of any kind, read by Hugging Face's `tokenizers`."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Library

        try:
            self._library = Library.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise FileError("cannot read {path} as a tokenizer: {reason}", path=path, reason=error) from error
        self._special = {i for i, token in self._library.get_added_tokens_decoder().items() if token.special}

    def encode(self, text: str) -> list[int]:
        return list(self._library.encode(text).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._library.decode(ids, skip_special_tokens=False))

    def split(self, text: str) -> list[Piece]:
        encoding = self._library.encode(text)
        return [
            Piece(i, text[start:stop] or self.piece(i))
            for i, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def piece(self, id: int) -> str:
        if self._library.id_to_token(id) is None:
            raise UsageError("token id {id} is outside the tokenizer's vocabulary", id=id)
        return str(self._library.id_to_token(id)) if id in self._special else self.decode([id])


def _is_character_level(facts: dict[str, Any]) -> bool:
    """WordLevel, every character by itself, nothing rewritten before or added after."""
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
        raise FileError("{path} is a tokenizer of a kind that needs the extra hf: pip install 'kvsim[hf]'", path=path)
    return LibraryTokenizer(path)
