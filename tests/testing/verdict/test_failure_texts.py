"""What a failure prints, whole, in both languages, for five mistakes: of attention, and of a decoder. To make the files
again after a change: `KVSIM_GOLDEN=write pytest tests/testing/verdict/test_failure_texts.py`, and read the diff."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.subject.attention import Inputs, attend
from tests.testing.strangers.numpy_decoders import NumpyDecoder, WindowPlusOne
from tests.testing.verdict.test_layers import shown
from tests.views.test_golden import masked

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "oracle"


def attention_with(id):
    """The independent attention with the first reading of a mistake."""
    one = BANK[id].attention_variants()[0].attention_only(None)
    return lambda q, k, v: attend(one, Inputs(q, k, v), None)


class Forgets(NumpyDecoder):
    """A step of one token sees its own row, and leaves the cache as it was."""

    def remember(self, layer, k, v):
        held = self.caches[layer]
        if held is None or k.shape[1] > 1:
            return super().remember(layer, k, v)
        return tuple(np.concatenate([old, new], axis=1) for old, new in zip(held, (k, v), strict=True))


def check_attention(id):
    testing.assert_attention(attention_with(id), heads=4, kv_heads=2)


def check_decoder(cls, **sizes):
    weights = testing.weights(**sizes)
    testing.assert_split_invariant(
        lambda: shown(cls)(weights), lambda m, ids: m.forward(ids), weights, layers=lambda m: m.layers()
    )


CHECKS = {
    "mask_top_left": lambda: check_attention("mask_top_left"),
    "gqa_tile_instead_of_repeat": lambda: check_attention("gqa_tile_instead_of_repeat"),
    "mask_after_softmax": lambda: check_attention("mask_after_softmax"),
    "decode_does_not_append": lambda: check_decoder(Forgets),
    "window_keeps_one_extra": lambda: check_decoder(WindowPlusOne, window=4),
}


def text_of_failure(id):
    with pytest.raises(OracleError) as caught:
        CHECKS[id]()
    return str(caught.value)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("id", CHECKS)
def test_the_text_of_a_failure(id, lang, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", lang)
    got, file = masked(text_of_failure(id)) + "\n", GOLDEN / f"{id}-{lang}.txt"
    if os.environ.get("KVSIM_GOLDEN") == "write":
        file.write_text(got, encoding="utf-8")
    assert got == file.read_text(encoding="utf-8")


# What every such text has, in this order; of attention also a picture, heads and sums; of a decoder its first layer.
OPENING = r"differs? from the reference: \d+ of \d+ values.* \(allowed \S+ = 2 x the reference's own float64 error \S+"
PLACE = r"first place: .*\(token \S+, position \d+\), channel \d+: got \S+, expected \S+"
LAYER = r"first layer: .*, step \d, layer 0 \(from 0\), row \d \(token \d+, position \d\)"
PICTURE = (
    r"who sees whom \(head \d, read out with V = identity\)   # seen",
    r"keys  中 华 人 民 共 和 国",
    r"query 国  ",
    r"query head -> kv head: yours \[\d, \d, \d, \d\]  reference \[0, 0, 1, 1\];  rows sum to 1: (yes|no)",
)
CLOSING = (
    r"diagnosis: \[{id}\] \w+",
    r"evidence : equals the reference with this one mistake on all \d+ values, in (\d+) of \1 failing feeds",
    r"smallest : feed \[\d",
    r"reproduce: kvsim explain {id} --heads 4 --kv-heads 2.* --seed 0",
)


@pytest.mark.parametrize("id", CHECKS)
def test_everything_is_in_it_and_in_order(id, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    lines = text_of_failure(id).splitlines()
    middle = PICTURE if lines[0].startswith("attention") else (LAYER,)
    parts = [OPENING, PLACE, *middle, *(part.replace("{id}", id) for part in CLOSING)]
    found = [next((n for n, line in enumerate(lines) if re.search(part, line)), None) for part in parts]
    assert None not in found, dict(zip(parts, found, strict=True))
    assert found == sorted(found)


def test_what_it_says_to_run_says_the_same(capsys, monkeypatch):
    from kvsim.cli import run

    monkeypatch.setenv("KVSIM_LANG", "en")
    for id in CHECKS:
        command = re.search(r"reproduce: kvsim (.*)", text_of_failure(id)).group(1)
        assert run(command.split()) == 0
        assert f"diagnosis: [{id}]" in capsys.readouterr().out


def test_no_golden_file_is_left_over():
    mistakes = {file.stem for file in GOLDEN.glob("*.txt") if not file.stem.startswith("example-")}
    assert mistakes == {f"{id}-{lang}" for id in CHECKS for lang in ("en", "zh")}
