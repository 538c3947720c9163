"""The tokenizer in a GGUF file's metadata, as the tokenizer.json of Hugging Face's `tokenizers` (extra hf)."""

import json
from importlib.util import find_spec
from typing import Any

from kvsim.errors import FileError, Words, shortened
from kvsim.loading.gguf.file import GGUF
from kvsim.text import Tokenizer

# Pre-tokenizers by tokenizer.ggml.pre; each pattern is from the model's own tokenizer.json.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _WORDS + r"\p{N}{1,3}" + _REST
_QWEN2 = _WORDS + r"\p{N}" + _REST
_PATTERNS = {"llama-bpe": _LLAMA3, "llama3": _LLAMA3, "qwen2": _QWEN2}
_DIGITS = ("smollm",)
_PLAIN = ("gpt-2", "default")
_CONTROL = 3  # token_type of special tokens


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _cutter(pre: str) -> dict[str, Any] | None:
    """The pre-tokenizer called `pre`, or None."""
    if pre in _PLAIN:
        return _byte_level(use_regex=True)
    if pre in _DIGITS:
        parts = [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)]
    elif pre in _PATTERNS:
        split = {"type": "Split", "pattern": {"Regex": _PATTERNS[pre]}, "behavior": "Isolated", "invert": False}
        parts = [split, _byte_level(use_regex=False)]
    else:
        return None
    return {"type": "Sequence", "pretokenizers": parts}


def _special(content: str, id: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, "special": True, **flags}


def _start_with(content: str, id: int) -> dict[str, Any]:
    """A post-processor that puts this token in front of every text."""
    start = {"SpecialToken": {"id": content, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    known = {content: {"id": content, "ids": [id], "tokens": [content]}}
    return {"type": "TemplateProcessing", "single": [start, one], "pair": [start, one, two], "special_tokens": known}


def _read(file: GGUF, key: str, default: Any, kind: type, expected: str) -> Any:
    """A field of the metadata, of type `kind`. FileError: of another one."""
    found = file.read(f"tokenizer.ggml.{key}", default)
    if found is not None and type(found) is not kind:
        raise _wrong(file, key, found, expected)
    return found


def _read_list(file: GGUF, key: str, kind: type, expected: str) -> list[Any]:
    """A list of the metadata whose entries are of type `kind`; empty if it is left out."""
    found: list[Any] = _read(file, key, [], list, expected)
    if found and type(found[0]) is not kind:  # all entries of a list are of one type
        raise _wrong(file, key, found, expected)
    return found


def _wrong(file: GGUF, key: str, value: object, expected: str) -> FileError:
    return FileError(
        "{path}: {key} is {value}, expected {expected}",
        path=file.path,
        key=f"tokenizer.ggml.{key}",
        value=shortened(value[:20] if isinstance(value, list) else value),
        expected=expected,
    )


def _read_tokens(file: GGUF, vocab_size: int) -> list[str]:
    """The token of each id. FileError: more tokens than the model has rows of embeddings."""
    length = file.length("tokenizer.ggml.tokens")
    if length > vocab_size:
        raise _wrong(file, "tokens.length", length, f"0 .. {vocab_size}")
    return _read_list(file, "tokens", str, Words("a list of texts"))


def _read_merges(file: GGUF, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs of tokens that are merged, in order. FileError: not two tokens that together are one."""
    pairs = []
    for merge in _read_list(file, "merges", str, Words("a list of texts")):
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocab.keys():
            raise _wrong(file, "merges", merge, Words("two tokens whose joint text is a token, too"))
        pairs.append((left, right))
    return pairs


def _first(file: GGUF, tokens: list[str]) -> int | None:
    """The id that begins every text, or None. FileError: outside the vocabulary."""
    add = _read(file, "add_bos_token", False, bool, Words("true or false"))
    first = _read(file, "bos_token_id", None, int, Words("a token id"))
    if not add or first is None:
        return None
    if not 0 <= first < len(tokens):
        raise _wrong(file, "bos_token_id", first, f"0 .. {len(tokens) - 1}")
    return int(first)


def _define(file: GGUF, tokens: list[str], cutter: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json. FileError: as for the fields that it reads."""
    vocab = {token: i for i, token in enumerate(tokens)}
    merges, first = _read_merges(file, vocab), _first(file, tokens)
    types = _read_list(file, "token_type", int, Words("a list of numbers"))
    special = [(token, i) for i, (token, kind) in enumerate(zip(tokens, types, strict=False)) if kind == _CONTROL]
    return {
        "version": "1.0",
        "added_tokens": [_special(token, i) for token, i in special],
        "pre_tokenizer": cutter,
        "post_processor": None if first is None else _start_with(tokens[first], first),
        "decoder": _byte_level(use_regex=True),
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


def read_gguf_tokenizer(file: GGUF, vocab_size: int) -> Tokenizer | None:
    """The byte-pair tokenizer in the metadata. None (ids still work): the file has none, its kind is unsupported, or
    the extra hf is missing. FileError: a field of another type, ids outside the vocabulary."""
    if file.read("tokenizer.ggml.model") != "gpt2" or find_spec("tokenizers") is None:
        return None
    tokens = _read_tokens(file, vocab_size)
    cutter = _cutter(_read(file, "pre", "default", str, Words("a text")))
    if not tokens or cutter is None:
        return None
    from kvsim.loading.tokenizers.process import ProcessTokenizer

    return ProcessTokenizer(json.dumps(_define(file, tokens, cutter)).encode(), file.path, vocab_size)
