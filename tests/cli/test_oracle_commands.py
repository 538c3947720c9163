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
    """verify and explain set KVSIM_LANG for the code that they call; restore it."""
    monkeypatch.setenv("KVSIM_LANG", "en")


def ask(capsys, *argv, code=0):
    """The JSON object, validated with the schema that `kvsim schema` prints; stdout holds nothing else."""
    assert run([*argv, "--json"]) == code
    out = capsys.readouterr().out
    assert run(["schema", argv[0]]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    record = json.loads(out, parse_constant=lambda word: pytest.fail(f"no JSON: {word}"))
    jsonschema.validate(record, schema)
    assert record["schema"] == schema["$id"] == f"kvsim.{argv[0]}/1"
    assert out.count("\n") == 1
    assert "\\u" not in out
    return record


def check(capsys, folder, text, *argv, code, lang="en"):
    """`kvsim verify` of the name `it` in a file with this text."""
    file = folder / "mine.py"
    file.write_text(text, encoding="utf-8")
    record = ask(capsys, "verify", f"{file}:it", "--lang", lang, *argv, code=code)
    assert (record["file"], record["name"]) == (str(file), "it")
    return record


NOTHING = {"diagnosis": [], "smallest": None, "max_abs_diff": None, "allowed": None, "policy": None, "failing": [],
           "problem": []}  # fmt: skip


def test_what_is_right(tmp_path, capsys):
    record = check(capsys, tmp_path, CACHE, "--seed", "3", code=0)
    assert (record["kind"], record["seed"], record["outcome"], record["text"]) == ("cache", 3, "pass", "")
    assert record.items() >= NOTHING.items()
    record = check(capsys, tmp_path, ATTENTION.replace("OFFSET", "s - t"), code=0)
    assert (record["kind"], record["outcome"]) == ("attention", "pass")


def test_what_is_wrong(tmp_path, capsys):
    text = CACHE.replace("self.rows[layer] = keys, values", "self.rows.setdefault(layer, (keys, values))")
    record = check(capsys, tmp_path, text, code=1)
    assert (record["kind"], record["outcome"]) == ("cache", "fail")
    assert (record["diagnosis"], record["smallest"]) == (["decode_does_not_append"], [1, 1, 1])
    assert (record["policy"], record["problem"]) == ("dynamic", [])
    assert [3, 3, 1] in record["failing"]
    assert record["max_abs_diff"] > record["allowed"] > 0
    assert f"max |diff| {record['max_abs_diff']:.3g}" in record["text"]
    assert run(["verify", f"{tmp_path / 'mine.py'}:it", "--lang", "en"]) == 1
    assert capsys.readouterr().out == record["text"] + "\n"


def test_a_wrong_attention_function(tmp_path, capsys):
    """Its sizes are queries and keys."""
    record = check(capsys, tmp_path, ATTENTION.replace("OFFSET", "0"), code=1)
    assert (record["kind"], record["diagnosis"]) == ("attention", ["mask_top_left"])
    assert (record["smallest"], record["policy"]) == ([1, 2], None)
    assert [3, 7] in record["failing"]
    assert [7, 7] not in record["failing"]


@pytest.mark.parametrize(("returned", "diagnosis", "said"), [
    ("* 3", ["unknown"], None), ("* float('nan')", [], "holds NaN"), ("[:1]", [], "has shape"),
])  # fmt: skip
def test_a_wrong_quantiser(returned, diagnosis, said, tmp_path, capsys):
    record = check(capsys, tmp_path, QUANTISER.replace("RETURNED", returned), code=1)
    assert (record["kind"], record["outcome"], record["diagnosis"]) == ("quantiser", "fail", diagnosis)
    assert record["problem"] == ([record["text"]] if said else [])
    assert (said or "steps at") in record["text"]


def test_what_is_wrong_and_raises(tmp_path, capsys):
    """The problem is reported beside the difference, in the language of the text."""
    wrong = ATTENTION.replace("OFFSET", "0").replace("    k, v =", "    if t == 6: raise ValueError('six')\n    k, v =")
    for language, said in (("en", "it raised ValueError: six"), ("zh", "it 抛出了 ValueError: six")):
        record = check(capsys, tmp_path, wrong, lang=language, code=1)
        assert record["diagnosis"] == ["mask_top_left"]
        assert [line.startswith(said) for line in record["problem"]] == [True]
    raises = CACHE.replace("self.rows[layer] = keys, values", "if keys.shape[1] == 2: raise ValueError('two')")
    record = check(capsys, tmp_path, raises, lang="zh", code=1)
    assert record["diagnosis"] != []
    assert "update 抛出了 ValueError: two（切分" in record["problem"][0]


def test_numbers_that_are_none(tmp_path, capsys, monkeypatch):
    """The largest difference is that of finite numbers, whichever feed has them; without any it is null."""
    for module in ("diagnosing", "attention"):
        monkeypatch.setattr(f"kvsim.testing.verdict.{module}.BANK", {})  # what is wrong is not looked at here
    record = check(capsys, tmp_path, CACHE.replace("return keys,", "return keys * np.nan,"), code=1)
    assert (record["outcome"], record["max_abs_diff"]) == ("fail", None)
    some = CACHE.replace("return keys,", "return keys * (2 if self.first == 1 else np.nan),").replace(
        "        old =", "        self.first = getattr(self, 'first', keys.shape[1])\n        old ="
    )
    record = check(capsys, tmp_path, some, code=1)
    assert record["failing"][0] == [3, 3, 1]  # gives NaN
    assert record["max_abs_diff"] > 0
    some = ATTENTION.replace("OFFSET", "0").replace(
        "    (b,", "    v = v * (np.nan if q.shape[1] == 3 else 1)\n    (b,"
    )
    record = check(capsys, tmp_path, some, code=1)
    assert record["failing"][0] == [3, 7]  # gives NaN
    assert record["max_abs_diff"] > 0


@pytest.mark.parametrize(("text", "kind", "outcome", "code"), [
    ("class it:\n    def update(self, layer, keys, values):\n        raise NotImplementedError('写吧')\n", "cache",
     "not started", 0),
    ("def it(q, k, v):\n    while True:\n        pass\n", "attention", "cannot be checked", 1),
    ("import os\nos._exit(3)\n", None, "cannot be checked", 1),
    ("class it:\n    def forward(self, ids):\n        raise ValueError('\\x07\\x9b')\n", "decoder", "fail", 1),
])  # fmt: skip
def test_what_was_not_compared(text, kind, outcome, code, tmp_path, capsys):
    record = check(capsys, tmp_path, text, *(["--seconds", "3"] if "while" in text else []), code=code)
    assert (record["kind"], record["outcome"]) == (kind, outcome)
    assert {**record, "problem": []}.items() >= NOTHING.items()
    assert record["text"]
    assert "\x9b" not in record["text"] + "".join(record["problem"])


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
        record = ask(capsys, "explain", "--lang", language)
        assert [m["id"] for m in record["mistakes"]] == list(BANK)
        for m in record["mistakes"]:
            known = BANK[m["id"]]
            assert (m["sentence"], m["smallest"]) == (known.sentence(language), list(known.smallest))
            assert (m["window"], m["policy"], m["twin"] or "") == (known.window, known.policy, known.twin)
        assert record["text"] is None


@pytest.mark.parametrize("argv", [
    ["mask_top_left", "--queries", "3"], ["window_keeps_one_extra"], ["gqa_tile_instead_of_repeat", "--kv-heads", "1"],
])  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_explain_shows_one(argv, language, capsys, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", language)
    record = ask(capsys, "explain", *argv)
    assert [m["id"] for m in record["mistakes"]] == [argv[0]]
    assert record["mistakes"][0]["sentence"] == find_mistake(argv[0]).sentence(language)
    assert run(["explain", *argv]) == 0
    shown = capsys.readouterr().out.partition("\n\n")[2]
    assert record["text"] == shown.removesuffix("\n")
    assert (record["text"] == "") is ("--kv-heads" in argv)  # nothing to tile


@pytest.mark.parametrize(("dtype", "name"), [("float32", "float32"), ("bf16", "bfloat16"), ("float64", "float64")])
def test_tolerance_is_exact(dtype, name, capsys):
    record = ask(
        capsys, "tolerance", "--dtype", dtype, "--context", "8", "--heads", "2", "--kv-heads", "1", "--seed", "5"
    )
    found = measure_tolerance(dtype, 8, 5, heads=2, kv_heads=1)
    assert (record["dtype"], record["context"], record["seed"]) == (name, 8, 5)
    assert [record[size] for size in ("layers", "heads", "kv_heads", "d_head")] == [2, 2, 1, 8]
    assert (record["own_error"] is None) is (name == "bfloat16")
    assert record["error"] == max(record["emulated_error"], record["own_error"] or 0.0)
    assert record["floor"] == record["floor_eps"] * record["eps"] * record["max_abs_logit"]
    assert record["allowed"] == 2 * record["error"] + record["floor"] == found.allowed.value
    assert (record["max_abs_logit"], record["emulated_error"], record["own_error"]) == (
        found.largest, found.emulated, found.own,
    )  # fmt: skip
