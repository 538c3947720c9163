"""A tokenizer.json of one of several kinds, mutated as JSON or as bytes, that encodes, splits and decodes texts."""

import json
import re
from functools import cache
from pathlib import Path

from kvsim.loading.tokenizers.reading import read_tokenizer
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.models import demo

NEEDS = ("tokenizers",)
TEXTS = ("Hello  world 12\n", "中华人民", "aab\ufffd<s>", "x" * 60, "")
HOSTILE = Path(__file__).parent.parent.parent / "loading" / "hostile_tokenizers"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
MARKED = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
VOCAB = {"<s>": 0, "<unk>": 1, "a": 2, "b": 3, "ab": 4, "##b": 5, "H": 6, "e": 7, "\u2581": 8, "x": 9, "xx": 10}
SPECIAL = {"id": 0, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
           "special": True}  # fmt: skip
START = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}| ?\p{L}+|\s+"}, "behavior": "Isolated", "invert": False}
CLEAN = {"type": "Sequence", "normalizers": [
    {"type": "NFKC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    {"type": "Prepend", "prepend": "\u2581"}, {"type": "BertNormalizer", "clean_text": True,
     "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}]}  # fmt: skip
DECODE = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}  # fmt: skip
MODELS = (
    {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
     "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False, "ignore_merges": False, "vocab": VOCAB,
     "merges": [["a", "b"], ["x", "x"]]},
    {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
     "vocab": VOCAB},
    {"type": "Unigram", "unk_id": 1, "vocab": [[word, -float(i)] for word, i in VOCAB.items()],
     "byte_fallback": False},
    {"type": "WordLevel", "unk_token": "<unk>", "vocab": VOCAB},
)  # fmt: skip


@cache
def definitions():
    """Tokenizers to mutate: every model with two ways of cutting and decoding, the demo's, and hostile ones."""
    made = [
        {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [SPECIAL], "normalizer": normalizer,
         "pre_tokenizer": cutter, "post_processor": START, "decoder": decoder, "model": model}
        for model in MODELS
        for normalizer, cutter, decoder in ((None, {"type": "Sequence", "pretokenizers": [SPLIT, BYTE_LEVEL]},
                                             BYTE_LEVEL), (CLEAN, MARKED, DECODE))
    ]  # fmt: skip
    files = [demo().path / "tokenizer.json", *sorted(HOSTILE.glob("*.json"))]
    return [*made, *(json.loads(file.read_text(encoding="utf-8")) for file in files)]


def valid(folder):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(definitions()[0]), encoding="utf-8")
    return path


def make(random, folder):
    path, definition = folder / "tokenizer.json", random.choice(definitions())
    if random.random() < 0.8:
        data = json.dumps(mutate_json(random, definition, random.choice((1, 1, 2)))).encode()
    else:
        data = mutate_bytes(random, json.dumps(definition).encode())
    path.write_bytes(data)
    return path


def use(path):
    tokenizer = read_tokenizer(path, 758)
    random = re.search(rb'"dropout": *[0-9]', path.read_bytes())  # merges left out at random, as in training
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert random or [piece.id for piece in tokenizer.split(text)] == ids
        tokenizer.decode(ids)
    tokenizer.decode([0, 3, 757])
