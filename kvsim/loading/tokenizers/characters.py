"""WordLevel over single characters (the demo model's): it needs only a table."""

from pathlib import Path
from typing import Any

from kvsim.checks import check_text, check_token_ids
from kvsim.errors import FileError
from kvsim.text import Piece

_ANY_CHARACTER = r"[\s\S]"


class CharacterTokenizer:
    """One token a character; a character outside the vocabulary is fed as the unknown token."""

    def __init__(self, vocab: dict[str, int], unknown: str, special: list[str]) -> None:
        self.vocab = vocab
        self.unknown = vocab[unknown]
        self.special = set(special)
        self._lengths = sorted({len(token) for token in special}, reverse=True)
        self._pieces = {i: piece for piece, i in vocab.items()}

    def _parts(self, text: str) -> list[str]:
        """Splits a text into special tokens and single characters."""
        parts, at = [], 0
        while at < len(text):
            found = (text[at : at + length] for length in self._lengths)
            whole = next((part for part in found if part in self.special), text[at])
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
        return "".join([self._pieces.get(i, f"[{i}]") for i in check_token_ids(ids)])


def is_character_level(facts: dict[str, Any]) -> bool:
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


def read_characters(path: Path, facts: dict[str, Any], vocab_size: int) -> CharacterTokenizer:
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
