"""`kvsim explain` with the options of a failure's last line prints that failure again, word for word."""

import re
import shlex

import numpy as np
import pytest

from kvsim import testing
from kvsim.cli import run
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.subject.attention import Inputs, attend
from tests.marks import case

CHOSEN = ["rope_pos_after_append", "decode_does_not_append", "window_ignored_in_decode", "layers_share_one_cache",
          "sinks_evicted", "paged_stale_tail", "quantised_twice"]  # fmt: skip
# Other readings differ in their number alone, as far as the printed command goes: the second of three ids is enough.
SECOND = ["mask_missing", "softmax_missing", "window_ignored"]
ALONE = [
    case(m, cls, id=f"{m.id}-{n}", dev=n > 1 and (n, m.id) not in [(2, id) for id in SECOND])
    for m in BANK.values() for n, cls in enumerate(m.attention_variants(), start=1)
]  # fmt: skip
IN_DECODERS = [
    *((BANK[id], 1, BANK[id].variants[0]) for id in CHOSEN),
    *((BANK[id], 2, BANK[id].variants[1]) for id in CHOSEN[:3]),
]


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")


def explained(text, capsys):
    """What the command in a failure's text prints."""
    (command,) = re.findall(r"^  reproduce: kvsim (.*)$", text, re.MULTILINE)
    assert run(shlex.split(command)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("settings", [
    {"heads": 4, "kv_heads": 2},
    {"heads": 6, "kv_heads": 3, "seed": 3, "window": 4, "d_head": 16, "batch": 1, "rotated": True, "cases": 2},
])  # fmt: skip
@pytest.mark.parametrize(("mistake", "cls"), ALONE)
def test_attention(mistake, cls, settings, capsys):
    def wrong(q, k, v, window=None):
        return attend(cls.attention_only(None), Inputs(q, k, v), window)

    text = ""
    try:
        testing.assert_attention(wrong, **settings)
    except OracleError as error:
        text = str(error)
    named = f"diagnosis: [{mistake.id}]" in text
    assert named or mistake.window or "window" in settings or "or [" in text
    if named:
        assert text in explained(text, capsys)


def fail(mistake, cls, weights, **more):
    config, arrays, held = weights.config.to_config(), weights.to_weights(), {}

    def make():
        held["it"] = held["it"].fresh() if held else cls(config, arrays, mistake.policy)
        return held["it"]

    def step(decoder, ids):
        with np.errstate(all="ignore"):
            return decoder.forward(ids)

    with pytest.raises(OracleError) as caught:
        testing.assert_policy(make, step, weights, mistake.policy, **more)
    return str(caught.value)


@pytest.mark.parametrize(("mistake", "number", "cls"), IN_DECODERS, ids=[f"{m.id}-{n}" for m, n, _ in IN_DECODERS])
def test_decoders(mistake, number, cls, capsys):
    heads = {"heads": 2, "kv_heads": 1} if "int8" in mistake.policy else {"heads": 6, "kv_heads": 3}  # texts are rare
    layers = 3 if mistake.id.startswith("layers") else 1
    weights = testing.weights(**heads, layers=layers, d_head=4, window=mistake.window, seed=3)
    text = fail(mistake, cls, weights, seed=3, cases=1)
    assert text in explained(text, capsys)
    assert f"--layers {layers} --d-head 4 --cases 1 --seed 3" in text
    assert (f"--reading {number}" in text) == (number > 1)


@pytest.mark.parametrize("more", [{"seed": 1}, {"d_model": 32}, {"rope": "pairs"}])
def test_what_cannot_be_made_again_is_not_promised(more, monkeypatch):
    """Weights of another seed than the texts, of other sizes, or of another kind."""
    mistake = BANK["mask_top_left"]
    monkeypatch.setattr("kvsim.testing.verdict.diagnosing.BANK", {mistake.id: mistake})  # no other is looked at here
    text = fail(mistake, mistake.variants[0], testing.weights(**more))
    assert "reproduce:" not in text
    assert "  similar  : kvsim explain mask_top_left --heads 4" in text


def test_the_sizes_asked_for_are_shown(capsys):
    for queries, keys in ((2, 5), (7, 9), (2, 3)):
        assert run(["explain", "mask_top_left", "--queries", str(queries), "--keys", str(keys)]) == 0
        out = capsys.readouterr().out
        assert f"--queries {queries} --keys {keys}" in out
        assert len(re.findall(r"^    query ", out, re.MULTILINE)) == queries
    assert run(["explain", "mask_top_left", "--keys", "2"]) == 0
    assert "--queries 2 --keys 2" not in capsys.readouterr().out  # a square shows nothing of this mistake


@pytest.mark.parametrize(("options", "said"), [
    (["--queries", "5", "--keys", "3"], "at most as many as keys"),
    (["--queries", "0"], "queries at least 1"),
    (["--seed", "-1"], "seed, cases and length are at least 0"),
    (["--reading", "9"], "mask_top_left has"),
    (["--reading", "0"], "mask_top_left has"),
    (["--heads", "4", "--kv-heads", "3"], "sizes are at least 1"),
    (["--heads", "x"], "--heads takes a whole number"),
 # What would take more than a minute beside other work.
    (["--layers", "23"], "up to 536870912 are computed"),
    (["--d-head", "32768", "--heads", "1", "--kv-heads", "1"], "up to 536870912 are computed"),
    (["--queries", "600", "--keys", "600"], "up to 268435456 are computed"),
    (["--buffer", "65536", "--cases", "100"], "up to 268435456 are computed"),
    (["--d-head", "0", "--queries", "2"], "d_head must be a whole number of at least 1"),
    (["--batch", "0", "--queries", "1"], "batch must be a whole number of at least 1"),
])  # fmt: skip
def test_options_that_make_no_sense(options, said, capsys):
    for language in ("en", "zh"):
        assert run(["explain", "mask_top_left", *options, "--lang", language]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        if language == "en":
            assert said in err
