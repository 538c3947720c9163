"""The tokenizer in a GGUF file's metadata, built with Hugging Face's `tokenizers` (extra hf)."""

from importlib.util import find_spec
from typing import Any

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


def read_gguf_tokenizer(file: GGUF) -> Tokenizer | None:
    """The byte-pair tokenizer in the metadata. None (ids still work): the file has none, its kind is unsupported, or
    the extra hf is missing."""
    tokens, types = file.read("tokenizer.ggml.tokens"), file.read("tokenizer.ggml.token_type", [])
    if file.read("tokenizer.ggml.model") != "gpt2" or not tokens or find_spec("tokenizers") is None:
        return None
    from tokenizers import AddedToken, decoders, models, processors
    from tokenizers import Tokenizer as Library

    cutter = _cutter(str(file.read("tokenizer.ggml.pre", "default")))
    if cutter is None:
        return None
    vocab = {token: i for i, token in enumerate(tokens)}
    library = Library(models.BPE(vocab, [tuple(m.split(" ", 1)) for m in file.read("tokenizer.ggml.merges", [])]))
    library.pre_tokenizer = cutter
    library.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
    library.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    first = file.read("tokenizer.ggml.bos_token_id")
    if file.read("tokenizer.ggml.add_bos_token", False) and first is not None:
        library.post_processor = processors.TemplateProcessing(
            single=f"{tokens[first]} $A", special_tokens=[(tokens[first], first)]
        )
    return LibraryTokenizer(library)
