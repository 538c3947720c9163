"""Reads a tokenizer.json. Kinds other than tables of characters need the `tokenizers` library (extra `hf`)."""

import os
from importlib.util import find_spec
from pathlib import Path

from kvsim.errors import FileError
from kvsim.loading.json_file import parse_json
from kvsim.loading.text_file import read_bytes
from kvsim.loading.tokenizers.characters import is_character_level, read_characters
from kvsim.text import Tokenizer

_LIMIT = 64 * 2**20  # bytes; the largest tokenizer.json in use has about 40 MB
_CHARACTERS = 4 * 2**20  # bytes of a table of characters: Unicode's 160,000 take 3 MB


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer in a tokenizer.json; None if there is no such file (ids still work).

    FileError: not a tokenizer, or one whose kind needs the extra `hf`, which is not installed.
    """
    if not os.path.lexists(path):
        return None
    raw = read_bytes(path, _LIMIT)
    if len(raw) <= _CHARACTERS:
        facts = parse_json(path, raw)
        try:
            if is_character_level(facts):
                return read_characters(path, facts, vocab_size)
        except (AttributeError, TypeError, KeyError) as error:
            raise FileError("{path} has not the fields of a tokenizer.json: make it anew", path=path) from error
    if find_spec("tokenizers") is None:
        raise FileError(
            '{path} is a tokenizer of a kind that needs the extra hf: pip install ".[hf]" in a clone of kvsim',
            path=path,
        )
    from kvsim.loading.tokenizers.process import ProcessTokenizer

    return ProcessTokenizer(raw, path, vocab_size)
