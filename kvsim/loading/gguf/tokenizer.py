"""The tokenizer in a GGUF file's metadata, as the tokenizer.json of Hugging Face's `tokenizers` (extra hf)."""

import json
from importlib.util import find_spec
from typing import Any

from kvsim.errors import FileError
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


def _read_list(file: GGUF, key: str, kind: type[Any]) -> list[Any]:
    """A list in the metadata; empty if there is none. FileError: anything else, or a value of another kind in it."""
    found = file.read(f"tokenizer.ggml.{key}", [])
    if not isinstance(found, list) or not all(type(one) is kind for one in found):
        raise FileError("{path}: tokenizer.ggml.{key} must be a list of {kind}", path=file.path, key=key,
                        kind=kind.__name__)  # fmt: skip
    return found


def _read_model(file: GGUF, tokens: list[str]) -> dict[str, Any]:
    """The vocabulary and its merges. FileError: a merge that is no pair."""
    merges = [merge.split(" ", 1) for merge in _read_list(file, "merges", str)]
    if any(len(pair) != 2 for pair in merges):
        raise FileError("{path}: a merge of its tokenizer is not two tokens and a blank between them", path=file.path)
    return {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}


def _read_start(file: GGUF, tokens: list[str]) -> dict[str, Any] | None:
    """The post-processor that the metadata ask for. FileError: its token is not in the vocabulary."""
    first = file.read("tokenizer.ggml.bos_token_id")
    if file.read("tokenizer.ggml.add_bos_token", False) is not True or first is None:
        return None
    if type(first) is not int or not 0 <= first < len(tokens):
        raise FileError("{path}: tokenizer.ggml.bos_token_id is {got}, and its vocabulary has {count} tokens",
                        path=file.path, got=first, count=len(tokens))  # fmt: skip
    return _start_with(tokens[first], first)


def read_gguf_tokenizer(file: GGUF) -> Tokenizer | None:
    """The byte-pair tokenizer in the metadata. None (ids still work): the file has none, its kind is unsupported, or
    the extra hf is missing. FileError: metadata of the wrong type, or that contradict one another."""
    if file.read("tokenizer.ggml.model") != "gpt2" or find_spec("tokenizers") is None:
        return None
    cutter = _cutter(str(file.read("tokenizer.ggml.pre", "default")))
    tokens = _read_list(file, "tokens", str)
    if cutter is None or not tokens:
        return None
    types = _read_list(file, "token_type", int)
    definition = {
        "version": "1.0",
        "added_tokens": [
            _special(token, i) for i, (token, kind) in enumerate(zip(tokens, types, strict=False)) if kind == _CONTROL
        ],
        "pre_tokenizer": cutter,
        "post_processor": _read_start(file, tokens),
        "decoder": _byte_level(use_regex=True),
        "model": _read_model(file, tokens),
    }
    from kvsim.loading.tokenizers.process import ProcessTokenizer

    return ProcessTokenizer(json.dumps(definition).encode(), file.path, len(tokens))
