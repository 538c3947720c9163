"""The tokenizer in a GGUF file's metadata, built with Hugging Face's `tokenizers` (extra hf)."""

from importlib.util import find_spec
from typing import Any

from kvsim.errors import FileError, Words, shortened
from kvsim.loading.gguf.file import GGUF
from kvsim.loading.tokenizers import LibraryTokenizer
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


def _cutter(pre: str) -> Any:
    """The pre-tokenizer called `pre`, or None."""
    from tokenizers import Regex, pre_tokenizers

    if pre in _PLAIN:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in _DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if pre in _PATTERNS:
        split = pre_tokenizers.Split(Regex(_PATTERNS[pre]), "isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return None


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


def _build(file: GGUF, tokens: list[str], cutter: Any) -> Any:
    """The library's tokenizer. FileError: as for the fields that it reads."""
    from tokenizers import AddedToken, decoders, models, processors
    from tokenizers import Tokenizer as Library

    vocab = {token: i for i, token in enumerate(tokens)}
    merges, first = _read_merges(file, vocab), _first(file, tokens)
    types = _read_list(file, "token_type", int, Words("a list of numbers"))
    special = [token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
    try:
        library = Library(models.BPE(vocab, merges))
        library.pre_tokenizer = cutter
        library.decoder = decoders.ByteLevel()
        library.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
        if first is not None:
            begin = {"id": "BEGIN", "ids": [first], "tokens": [tokens[first]]}  # its own text might not parse
            library.post_processor = processors.TemplateProcessing(single="BEGIN $A", special_tokens=[begin])
    except Exception as error:  # the library raises plain Exception
        raise FileError("cannot read {path} as a tokenizer: {reason}", path=file.path, reason=error) from error
    return library


def read_gguf_tokenizer(file: GGUF, vocab_size: int) -> Tokenizer | None:
    """The byte-pair tokenizer in the metadata. None (ids still work): the file has none, its kind is unsupported, or
    the extra hf is missing. FileError: a field of another type, ids outside the vocabulary."""
    if file.read("tokenizer.ggml.model") != "gpt2" or find_spec("tokenizers") is None:
        return None
    tokens = _read_tokens(file, vocab_size)
    cutter = _cutter(_read(file, "pre", "default", str, Words("a text")))
    if not tokens or cutter is None:
        return None
    return LibraryTokenizer(_build(file, tokens, cutter))
