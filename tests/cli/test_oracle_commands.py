"""`kvsim verify`, `explain` and `tolerance` with --json: one object that its schema describes, and the text's facts."""

import json

import jsonschema
import pytest

from kvsim.cli import run
from kvsim.testing.bank import BANK, find_mistake
from kvsim.testing.tolerances import measure_tolerance
from tests.testing.test_verify import CACHE as KV_CACHE

CACHE = KV_CACHE.replace("KVCache", "it")
ATTENTION = """
import numpy as np

def it(q, k, v):
    (b, t, h, d), s = q.shape, k.shape[1]
    k, v = (np.repeat(x, h // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(d)
    scores = np.where(np.tril(np.ones((t, s), bool), OFFSET), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("bhts,bshd->bthd", weights / weights.sum(axis=-1, keepdims=True), v)
"""
QUANTISER = """
class it:
    def quantise(self, x):
        return x
    def dequantise(self, x):
        return x RETURNED
"""


@pytest.fixture(autouse=True)
def language(monkeypatch):
    """verify and explain set it for what they call; it is put back."""
    monkeypatch.setenv("KVSIM_LANG", "en")


def ask(capsys, *argv, code=0):
    """The object, held against the schema that the command `schema` prints; nothing beside it on stdout."""
    assert run([*argv, "--json"]) == code
    out = capsys.readouterr().out
    assert run(["schema", argv[0]]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    told = json.loads(out, parse_constant=lambda word: pytest.fail(f"no JSON: {word}"))
    jsonschema.validate(told, schema)
    assert told["schema"] == schema["$id"] == f"kvsim.{argv[0]}/1"
    assert out.count("\n") == 1
    assert "\\u" not in out
    return told


def check(capsys, folder, text, *argv, code, lang="en"):
    """verify of what is called `it` in a file of this text."""
    file = folder / "mine.py"
    file.write_text(text, encoding="utf-8")
    told = ask(capsys, "verify", f"{file}:it", "--lang", lang, *argv, code=code)
    assert (told["file"], told["name"]) == (str(file), "it")
    return told


NOTHING = {"diagnosis": [], "smallest": None, "max_abs_diff": None, "allowed": None, "policy": None, "failing": [],
           "problem": []}  # fmt: skip


def test_what_is_right(tmp_path, capsys):
    told = check(capsys, tmp_path, CACHE, "--seed", "3", code=0)
    assert (told["kind"], told["seed"], told["outcome"], told["text"]) == ("cache", 3, "pass", "")
    assert told.items() >= NOTHING.items()
    told = check(capsys, tmp_path, ATTENTION.replace("OFFSET", "s - t"), code=0)
    assert (told["kind"], told["outcome"]) == ("attention", "pass")


def test_what_is_wrong(tmp_path, capsys):
    text = CACHE.replace("self.rows[layer] = keys, values", "self.rows.setdefault(layer, (keys, values))")
    told = check(capsys, tmp_path, text, code=1)
    assert (told["kind"], told["outcome"]) == ("cache", "fail")
    assert (told["diagnosis"], told["smallest"]) == (["decode_does_not_append"], [1, 1, 1])
    assert (told["policy"], told["problem"]) == ("dynamic", [])
    assert [3, 3, 1] in told["failing"]
    assert told["max_abs_diff"] > told["allowed"] > 0
    assert f"max |diff| {told['max_abs_diff']:.3g}" in told["text"]
    assert run(["verify", f"{tmp_path / 'mine.py'}:it", "--lang", "en"]) == 1
    assert capsys.readouterr().out == told["text"] + "\n"


def test_a_wrong_attention_function(tmp_path, capsys):
    """Its sizes are queries and keys."""
    told = check(capsys, tmp_path, ATTENTION.replace("OFFSET", "0"), code=1)
    assert (told["kind"], told["diagnosis"]) == ("attention", ["mask_top_left"])
    assert (told["smallest"], told["policy"]) == ([1, 2], None)
    assert [3, 7] in told["failing"]
    assert [7, 7] not in told["failing"]


@pytest.mark.parametrize(("returned", "diagnosis", "said"), [
    ("* 3", ["unknown"], None), ("* float('nan')", [], "holds NaN"), ("[:1]", [], "has shape"),
])  # fmt: skip
def test_a_wrong_quantiser(returned, diagnosis, said, tmp_path, capsys):
    told = check(capsys, tmp_path, QUANTISER.replace("RETURNED", returned), code=1)
    assert (told["kind"], told["outcome"], told["diagnosis"]) == ("quantiser", "fail", diagnosis)
    assert told["problem"] == ([told["text"]] if said else [])
    assert (said or "steps at") in told["text"]


def test_what_is_wrong_and_raises(tmp_path, capsys):
    """The problem is told beside the difference, in the language of the text."""
    wrong = ATTENTION.replace("OFFSET", "0").replace("    k, v =", "    if t == 6: raise ValueError('six')\n    k, v =")
    for language, said in (("en", "it raised ValueError: six"), ("zh", "it 抛出了 ValueError: six")):
        told = check(capsys, tmp_path, wrong, lang=language, code=1)
        assert told["diagnosis"] == ["mask_top_left"]
        assert [line.startswith(said) for line in told["problem"]] == [True]
    raises = CACHE.replace("self.rows[layer] = keys, values", "if keys.shape[1] == 2: raise ValueError('two')")
    told = check(capsys, tmp_path, raises, lang="zh", code=1)
    assert told["diagnosis"] != []
    assert "update 抛出了 ValueError: two（切分" in told["problem"][0]


def test_numbers_that_are_none(tmp_path, capsys):
    """The largest difference is that of finite numbers, whichever feed has them; without any it is null."""
    told = check(capsys, tmp_path, CACHE.replace("return keys,", "return keys * np.nan,"), code=1)
    assert (told["outcome"], told["max_abs_diff"]) == ("fail", None)
    some = CACHE.replace("return keys,", "return keys * (2 if self.first == 1 else np.nan),").replace(
        "        old =", "        self.first = getattr(self, 'first', keys.shape[1])\n        old ="
    )
    told = check(capsys, tmp_path, some, code=1)
    assert told["failing"][0] == [3, 3, 1]  # gives NaN
    assert told["max_abs_diff"] > 0
    some = ATTENTION.replace("OFFSET", "0").replace(
        "    (b,", "    v = v * (np.nan if q.shape[1] == 3 else 1)\n    (b,"
    )
    told = check(capsys, tmp_path, some, code=1)
    assert told["failing"][0] == [3, 7]  # gives NaN
    assert told["max_abs_diff"] > 0


@pytest.mark.parametrize(("text", "kind", "outcome", "code"), [
    ("class it:\n    def update(self, layer, keys, values):\n        raise NotImplementedError('写吧')\n", "cache",
     "not started", 0),
    ("def it(q, k, v):\n    while True:\n        pass\n", "attention", "cannot be checked", 1),
    ("import os\nos._exit(3)\n", None, "cannot be checked", 1),
    ("class it:\n    def forward(self, ids):\n        raise ValueError('\\x07\\x9b')\n", "decoder", "fail", 1),
])  # fmt: skip
def test_what_was_not_compared(text, kind, outcome, code, tmp_path, capsys):
    told = check(capsys, tmp_path, text, *(["--seconds", "3"] if "while" in text else []), code=code)
    assert (told["kind"], told["outcome"]) == (kind, outcome)
    assert {**told, "problem": []}.items() >= NOTHING.items()
    assert told["text"]
    assert "\x9b" not in told["text"] + "".join(told["problem"])


@pytest.mark.parametrize(("text", "code"), [
    ("raise SystemExit(4)\n", 4), ("def other(q, k, v): pass\n", 2), (None, 4),
])  # fmt: skip
def test_errors_stay_on_stderr(text, code, tmp_path, capsys):
    if text is not None:
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    assert run(["verify", f"{tmp_path / 'mine.py'}:it", "--json", "--lang", "en"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kvsim: error: ")


def test_what_the_code_prints_is_not_in_the_object(tmp_path, capfd):
    (tmp_path / "mine.py").write_text("print('hello')\n" + CACHE, encoding="utf-8")
    assert run(["verify", f"{tmp_path / 'mine.py'}:it", "--json", "--lang", "en"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["outcome"] == "pass"
    assert "hello" in err


def test_explain_lists_the_bank(capsys):
    for language in ("en", "zh"):
        told = ask(capsys, "explain", "--lang", language)
        assert [m["id"] for m in told["mistakes"]] == list(BANK)
        for m in told["mistakes"]:
            known = BANK[m["id"]]
            assert (m["sentence"], m["smallest"]) == (known.sentence(language), list(known.smallest))
            assert (m["window"], m["policy"], m["twin"] or "") == (known.window, known.policy, known.twin)
        assert told["text"] is None


@pytest.mark.parametrize("argv", [
    ["mask_top_left", "--queries", "3"], ["window_keeps_one_extra"], ["gqa_tile_instead_of_repeat", "--kv-heads", "1"],
])  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_explain_shows_one(argv, language, capsys, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", language)
    told = ask(capsys, "explain", *argv)
    assert [m["id"] for m in told["mistakes"]] == [argv[0]]
    assert told["mistakes"][0]["sentence"] == find_mistake(argv[0]).sentence(language)
    assert run(["explain", *argv]) == 0
    shown = capsys.readouterr().out.partition("\n\n")[2]
    assert told["text"] == shown.removesuffix("\n")
    assert (told["text"] == "") is ("--kv-heads" in argv)  # nothing to tile


@pytest.mark.parametrize(("dtype", "name"), [("float32", "float32"), ("bf16", "bfloat16"), ("float64", "float64")])
def test_tolerance_is_exact(dtype, name, capsys):
    told = ask(
        capsys, "tolerance", "--dtype", dtype, "--context", "8", "--heads", "2", "--kv-heads", "1", "--seed", "5"
    )
    found = measure_tolerance(dtype, 8, 5, heads=2, kv_heads=1)
    assert (told["dtype"], told["context"], told["seed"]) == (name, 8, 5)
    assert [told[size] for size in ("layers", "heads", "kv_heads", "d_head")] == [2, 2, 1, 8]
    assert (told["own_error"] is None) is (name == "bfloat16")
    assert told["error"] == max(told["emulated_error"], told["own_error"] or 0.0)
    assert told["floor"] == told["floor_eps"] * told["eps"] * told["max_abs_logit"]
    assert told["allowed"] == 2 * told["error"] + told["floor"] == found.allowed.value
    assert (told["max_abs_logit"], told["emulated_error"], told["own_error"]) == (
        found.largest, found.emulated, found.own,
    )  # fmt: skip
