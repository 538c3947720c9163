"""The commands verify, explain and tolerance, and the exercises: as they are handed out, and as they are solved."""

from pathlib import Path

import numpy as np
import pytest

from kvsim.cli import run
from kvsim.testing.bank import BANK
from kvsim.testing.tolerances import measure_tolerance
from kvsim.testing.verifying import FINE, NOT_STARTED, WRONG, verify

EXERCISES = Path(__file__).parent.parent.parent / "examples" / "exercises"
CACHE = """
import numpy as np

class KVCache:
    def __init__(self):
        self.rows = {}

    def update(self, layer, keys, values):
        old = self.rows.get(layer)
        if old is not None:
            keys, values = (np.concatenate(pair, axis=1) for pair in zip(old, (keys, values)))
        self.rows[layer] = keys, values
        return keys, values
"""
LOOP = (EXERCISES / "tutorial_loop.py").read_text(encoding="utf-8")
APPENDED = LOOP.replace(
    "            query = self.query(layer, new_token)\n",
    "            self.key_cache[layer].append(self.key(layer, new_token))\n"
    "            self.value_cache[layer].append(self.value(layer, new_token))\n"
    "            query = self.query(layer, new_token)\n",
)


def write(folder, text, name="mine.py"):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_stub_that_is_not_started_is_no_failure(capsys):
    target = f"{EXERCISES / 'kv_cache.py'}:KVCache"
    for language, said in (("en", "not started yet: update raised NotImplementedError: write update"),
                           ("zh", "尚未实现")):  # fmt: skip
        assert run(["verify", target, "--lang", language]) == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("text", [
    "def it(q, k, v):\n    raise NotImplementedError('write it')\n",
    "class it:\n    def __init__(self):\n        raise NotImplementedError\n",
    "class it:\n    def forward(self, ids):\n        raise NotImplementedError\n",
])  # fmt: skip
def test_other_stubs(text, tmp_path):
    assert verify(write(tmp_path, text) + ":it").ended == NOT_STARTED


def test_what_is_half_written_is_a_failure(tmp_path):
    """Single tokens are done, several are not."""
    text = CACHE.replace(
        "old = self", "if keys.shape[1] > 1:\n            raise NotImplementedError('chunks')\n        old = self"
    )
    assert verify(write(tmp_path, text) + ":KVCache").ended == WRONG


def test_the_first_exercise_solved(tmp_path, capsys):
    target = write(tmp_path, CACHE) + ":KVCache"
    assert run(["verify", target, "--lang", "en"]) == 0
    assert capsys.readouterr().out == f"{target}: right\n"


@pytest.mark.parametrize(("before", "after", "id"), [
    ("zip(old, (keys, values))", "zip((keys, values), old)", "concat_prepends_new"),
    ("self.rows[layer] = keys, values", "self.rows.setdefault(layer, (keys, values))", "decode_does_not_append"),
    ("if old is not None", "if False", "cache_overwritten"),
    ("        self.rows = {}", "        self.rows = ROWS", "cache_not_reset_between_prompts"),
    ("return keys, values\n", "return keys, keys\n", "used_k_as_v"),
])  # fmt: skip
def test_the_first_exercise_wrong(before, after, id, tmp_path):
    assert before in CACHE
    ended, text, *_ = verify(write(tmp_path, "ROWS = {}\n" + CACHE.replace(before, after)) + ":KVCache")
    assert ended == WRONG
    assert f"[{id}]" in text


def test_the_second_exercise(tmp_path):
    ended, text, *_ = verify(f"{EXERCISES / 'tutorial_loop.py'}:TutorialLoop")
    assert (ended, "[unknown]" in text) == (WRONG, True)
    chained = LOOP.replace("(layer, new_token)", "(layer, x)").replace("(layer, first)", "(layer, x)")
    ended, text, *_ = verify(write(tmp_path, chained) + ":TutorialLoop")
    assert ended == WRONG
    assert "[decode_does_not_append]" in text
    both = APPENDED.replace("(layer, new_token)", "(layer, x)").replace("(layer, first)", "(layer, x)")
    assert verify(write(tmp_path, both) + ":TutorialLoop")[:2] == (FINE, "")


def test_an_attention_function(tmp_path, capsys):
    text = """
import torch

def attention(q, k, v):
    q, k, v = (torch.from_numpy(x).transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
"""
    pytest.importorskip("torch")
    assert run(["verify", write(tmp_path, text) + ":attention", "--lang", "zh"]) == 1
    assert "诊断：[mask_top_left]" in capsys.readouterr().out


CANNOT_BE_CHECKED = [
    ("def attention(q, k, v):\n    while True:\n        pass\n", 1, "did not end within 0.5 s", "0.5 秒内没有结束"),
    ("import os\nos._exit(3)\n", 1, "it ended its own process, with exit code 3", "退出码 3"),
    ("raise SystemExit(4)\n", 4, "cannot be imported: SystemExit: 4", "无法导入"),
    ("def attention(q k):\n", 4, "cannot be imported: SyntaxError", "无法导入"),
    ("import nothing_of_that_name\n", 4, "cannot be imported: ModuleNotFoundError", "无法导入"),
    ("def other(q, k, v): pass\n", 2, "has no function or class attention, but other", "没有名为 attention"),
    ("attention = 3\n", 2, "defines no function or class", "没有定义函数或类"),
    ("def attention(q, k, v): pass\nattention.layout = 'x y'", 2, "a layout has the letters t, h and d", "布局"),
    ("class attention:\n    def __init__(self): raise SystemExit(0)\n", 1, "raised SystemExit: 0", "SystemExit: 0"),
    ("def attention(q, k, v): raise RuntimeError('a\\x07b')", 1, "raised RuntimeError", "抛出了 RuntimeError"),
]  # fmt: skip
# Each case is a process: all in English, every third in Chinese too.
IN_LANGUAGES = [
    *((text, code, "en", english) for text, code, english, _ in CANNOT_BE_CHECKED),
    *((text, code, "zh", chinese) for text, code, _, chinese in CANNOT_BE_CHECKED[1::3]),
]


@pytest.mark.parametrize(("text", "code", "language", "said"), IN_LANGUAGES)
def test_code_that_cannot_be_checked(text, code, language, said, tmp_path, capsys):
    target = write(tmp_path, text) + ":attention"
    limit = ["--seconds", "0.5"] if "while" in text else []
    assert run(["verify", target, "--lang", language, *limit]) == code
    out, err = capsys.readouterr()
    assert said in (err if code in (2, 4) else out)
    assert "Traceback" not in out + err
    assert "\x07" not in out + err
    assert len((out + err).splitlines()) <= 2


def test_threads_that_are_left_behind_are_not_waited_for(tmp_path):
    text = "import threading, time\nthreading.Thread(target=lambda: time.sleep(3600)).start()\n" + CACHE
    assert verify(write(tmp_path, text) + ":KVCache", seconds=120.0).ended == FINE


def test_what_the_code_prints_is_told_apart(tmp_path, capsys):
    text = "print('hello')\ntry:\n    input()\nexcept EOFError:\n    print('no input')\n" + CACHE
    assert run(["verify", write(tmp_path, text) + ":KVCache", "--lang", "en"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith(": right\n")
    assert "hello" in err
    assert "no input" in err


@pytest.mark.parametrize("target", ["mine.txt:x", "mine.py", "nowhere.py:x", "a.py:b c"])
def test_targets_that_are_none(target, capsys):
    assert run(["verify", target, "--lang", "en"]) in (2, 4)
    assert capsys.readouterr().err.startswith("kvsim: error: ")


def test_explain(capsys, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    assert run(["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(BANK)
    assert run(["explain", "mask_top_left", "--queries", "3"]) == 0
    out = capsys.readouterr().out
    assert "a real bug of the kind: onnx/onnx#8068" in out
    assert "who sees whom" in out
    assert run(["explain", "window_keeps_one_extra", "--lang", "zh"]) == 0
    assert "窗口 W 是当前键" in capsys.readouterr().out
    assert run(["explain", "nothing"]) == 2


@pytest.mark.parametrize("id", ["cache_not_reset_between_prompts", "rope_pos_after_append", "window_ignored_in_decode"])
def test_explain_names_what_it_explains(id, capsys, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    assert run(["explain", id]) == 0
    assert f"diagnosis: [{id}]" in capsys.readouterr().out


def test_tolerance(capsys):
    found = measure_tolerance("float32", 32)
    assert found.own is not None
    assert found.allowed.value == 2 * max(found.own, found.emulated) + found.allowed.floor
    rough = measure_tolerance("bf16", 32)
    assert rough.own is None
    assert 1000 < rough.allowed.value / found.allowed.value < 10**6
    assert np.isfinite(measure_tolerance("float64", 32).allowed.value)
    assert run(["tolerance", "--dtype", "bf16", "--context", "32", "--lang", "en"]) == 0
    assert "allowed (atol): 2 x" in capsys.readouterr().out
    assert run(["tolerance", "--dtype", "int3", "--lang", "en"]) == 2
    assert run(["tolerance", "--context", "0", "--lang", "en"]) == 2
