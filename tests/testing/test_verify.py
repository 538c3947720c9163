"""The commands verify, explain and tolerance."""

import json
import os
import select
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import kvsim
from kvsim.cli import run
from kvsim.errors import FileError, UsageError
from kvsim.processes.channel import FrameError
from kvsim.testing import verifying
from kvsim.testing.bank import BANK
from kvsim.testing.feeds.chunking import Texts
from kvsim.testing.subject import wire
from kvsim.testing.subject.remote import CodeEndedError, NoAnswerError, Process
from kvsim.testing.tolerances import measure_tolerance
from kvsim.testing.verifying import BROKEN, FINE, NOT_STARTED, WRONG, Found, describe_end, verify
from tests.testing.in_one_process import judge_answers, verify_here

STUB = """
class KVCache:
    def update(self, layer, keys, values):
        raise NotImplementedError("write update")
"""
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
TUTORIAL = Path(__file__).with_name("tutorial_loop.py")
LOOP = TUTORIAL.read_text(encoding="utf-8")
APPENDED = LOOP.replace(
    "            query = self.query(layer, new_token)\n",
    "            self.key_cache[layer].append(self.key(layer, new_token))\n"
    "            self.value_cache[layer].append(self.value(layer, new_token))\n"
    "            query = self.query(layer, new_token)\n",
)


def write(folder, text, name="mine.py"):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_stub_that_is_not_started_is_no_failure(tmp_path, capsys):
    target = f"{write(tmp_path, STUB)}:KVCache"
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
    assert verify_here(write(tmp_path, text)).ended == NOT_STARTED


def test_what_is_half_written_is_a_failure(tmp_path):
    """Single tokens are done, several are not."""
    text = CACHE.replace(
        "old = self", "if keys.shape[1] > 1:\n            raise NotImplementedError('chunks')\n        old = self"
    )
    assert verify_here(write(tmp_path, text), "KVCache").ended == WRONG


def test_a_cache_solved(tmp_path, capsys):
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
def test_a_cache_wrong(before, after, id, tmp_path):
    assert before in CACHE
    ended, text, *_ = verify_here(write(tmp_path, "ROWS = {}\n" + CACHE.replace(before, after)), "KVCache")
    assert ended == WRONG
    assert f"[{id}]" in text


def test_a_loop_with_two_mistakes(tmp_path):
    ended, text, *_ = verify_here(TUTORIAL, "TutorialLoop")
    assert (ended, "[unknown]" in text) == (WRONG, True)
    chained = LOOP.replace("(layer, new_token)", "(layer, x)").replace("(layer, first)", "(layer, x)")
    ended, text, *_ = verify_here(write(tmp_path, chained), "TutorialLoop")
    assert ended == WRONG
    assert "[decode_does_not_append]" in text
    both = APPENDED.replace("(layer, new_token)", "(layer, x)").replace("(layer, first)", "(layer, x)")
    assert verify_here(write(tmp_path, both), "TutorialLoop")[:2] == (FINE, "")


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


RIGHT = """
import numpy as np

def it(q, k, v):
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    later = np.arange(k.shape[1]) > np.arange(k.shape[1] - q.shape[1], k.shape[1])[:, None]
    weights = np.exp(np.where(later, -np.inf, scores))
    return np.einsum("bhts,bshd->bthd", weights / weights.sum(axis=-1, keepdims=True), v)
"""


def test_the_folder_of_the_code_takes_no_modules_place(tmp_path):
    """Neither in the process of the code nor in that of the command, which is run in this folder; the code's own
    modules are found beside it, and it may itself be called like one of Python's."""
    for name in ("json", "numpy", "tempfile", "click", "socket", "signal", "colorsys"):
        write(tmp_path, "raise SystemExit('shadowed')", f"{name}.py")
    write(tmp_path, "HALF = 0.5\n", "my_helper.py")
    text = RIGHT.replace("np.sqrt(q.shape[-1])", "q.shape[-1] ** my_helper.HALF")
    write(tmp_path, "import colorsys, my_helper\n" + text, "random.py")
    environment = os.environ | {"PYTHONPATH": str(Path(kvsim.__file__).parent.parent), "KVSIM_LANG": "en"}
    done = subprocess.run([sys.executable, "-m", "kvsim", "verify", "random.py:it"], cwd=tmp_path, check=False,
                          env=environment, capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "random.py:it: right\n", "")


def test_nothing_that_the_code_patches_or_prints_makes_it_right(tmp_path):
    text = (
        RIGHT.replace("/ np.sqrt(q.shape[-1])", "")
        + """
import json, os, sys
import kvsim.testing.checks.attention as checks
json.dumps = lambda *a, **k: '{"ended": "fine"}'
checks.assert_attention = checks.equal = lambda *a, **k: None
os.write(1, b'{"ended": "fine", "text": ""}')
"""
    )
    found = verify(write(tmp_path, text) + ":it")
    assert (found.ended, "[missing_scale]" in found.text or "diagnosis" in found.text) == (WRONG, True)
    assert found.printed == '{"ended": "fine", "text": ""}'


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_the_code_starts_is_ended(tmp_path):
    """A child in its group, one in a session of its own, and one that two forks have handed to init: each holds a pipe
    with a name, which ends when they do."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    text = f"""
import os, subprocess, time
held = os.open({str(pipe)!r}, os.O_WRONLY)
for alone in (False, True):
    subprocess.Popen(["/bin/sleep", "600"], start_new_session=alone, pass_fds=[held])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(held, b"up")
        time.sleep(600)
    os._exit(0)
os.close(held)
"""
    found = verify(write(tmp_path, text + RIGHT) + ":it", seconds=600.0)
    assert found.ended == FINE
    assert select.select([reader], [], [], 60.0)[0]
    while (read := os.read(reader, 100)) == b"up":
        select.select([reader], [], [], 60.0)
    assert read == b""
    os.close(reader)


ATTENTION = b'{"facts": {"kind": "attention", "layout": "b t h d", "called": "it"}, "arrays": []}'


def reply(array="", **facts):
    return json.dumps({"facts": facts, "arrays": json.loads(f"[{array}]")}).encode()


@pytest.mark.parametrize("answers", [
    [b"nope"],
    [b"[" * 60_000],
    [b'{"facts": {}}'],
    [b'{"facts": [], "arrays": []}'],
    [bytes(70_000)],
    [b'{"facts": {"kind": "fine"}, "arrays": []}'],
    [ATTENTION, b""],
    [ATTENTION, reply()],
    [ATTENTION, reply('[[3], "float64"]'), bytes(23)],
    [ATTENTION, reply('[[3], "float64"]'), bytes(32)],
    [ATTENTION, reply('[[1048577], "float64"]'), b""],
    [ATTENTION, reply('[[1048576, 1048576], "float64"]'), b""],
    [ATTENTION, reply('[[-1], "float64"]'), b""],
    [ATTENTION, reply('[[1.0], "float64"]'), bytes(8)],
    [ATTENTION, reply('[[1], "object"]'), bytes(8)],
    [ATTENTION, reply('[[1], ["float64"]]'), bytes(8)],
    [ATTENTION, reply('[[1]]'), bytes(8)],
    [ATTENTION, reply(", ".join(4 * ['[[], "float64"]'])), *4 * [bytes(8)]],
    [ATTENTION, reply(problem="{name.__class__}", values={"name": "x"})],
    [ATTENTION, reply(problem="{name} raised {error}", values={"name": "x"})],
    [ATTENTION, reply(problem="{name} raised {error}", values={"name": "x", "error": [1]})],
    [ATTENTION, reply(problem=["x"], values={})],
    [b'{"facts": {"kind": "quantiser"}, "arrays": []}', reply(number="1")],
    [b'{"facts": {"kind": "quantiser"}, "arrays": []}', reply(problem="quantise changed its input", values={})],
    [reply(problem="quantise changed its input", values={})],
    [b'{"facts": {"kind": "cache"}, "arrays": []}', reply(number=1), reply('[[1], "float64"]'), bytes(8)],
])  # fmt: skip
def test_answers_that_are_none(answers):
    with pytest.raises(NoAnswerError):
        judge_answers(answers)


def test_no_array_is_waited_for_that_is_too_large():
    class Frames:
        def __init__(self, *frames):
            self.frames, self.limits = list(frames), []

        def receive(self, limit):
            self.limits.append(limit)
            return self.frames.pop(0)

    frames = Frames(reply('[[1048577], "float64"]'), bytes(8 * 1048577))
    with pytest.raises(FrameError):
        wire.receive(frames)
    assert frames.limits == [wire.HEAD]


@pytest.mark.parametrize("answers", [[], [ATTENTION], [b'{"facts": {"ended": "fine", "text": "right"}, "arrays": []}'],
                                     [ATTENTION, reply(ended="right")]])  # fmt: skip
def test_an_end_is_no_result(answers):
    with pytest.raises(CodeEndedError):
        judge_answers(answers)


def test_what_an_answer_says_is_one_short_line():
    ended = reply(ended="broken", text="a\nit: right\n" + 900 * "x")
    assert judge_answers([ended]) == Found(BROKEN, "a it: right " + 288 * "x")
    raised = reply(problem="{name} raised {error}", values={"name": "a\nb", "error": 5000 * "x"}, fatal=True)
    found = judge_answers([ATTENTION, raised])
    assert found.ended == WRONG
    assert found.text.startswith("a b raised xxx")
    assert len(found.text.splitlines()) == 1
    assert len(found.text) < 1200


def test_numbers_of_any_size(tmp_path):
    text = "class it:\n    def update(self, layer, k, v): return 1e200 * k, 1e300 * v\n"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert verify_here(write(tmp_path, text)).ended == WRONG
    assert [str(one.message) for one in caught] == []


def test_too_many_numbers(tmp_path):
    text = "import numpy as np\ndef it(q, k, v): return np.zeros(2**20 + 1)\n"
    assert (
        "the result has 1048577 numbers, more than the 1048576 that are read" in verify_here(write(tmp_path, text)).text
    )
    text = "import numpy as np\nclass it:\n    def update(self, layer, k, v): return 2 * [np.zeros((2, 5000, 8))]\n"
    assert "update gave keys and values of shapes [[2, 5000, 8]" in verify_here(write(tmp_path, text)).text


@pytest.mark.parametrize(("line", "said"), [
    ("bits = 2**40", "bits is from 2 to 64 and group from 1 to 512, got [1099511627776, 64]"),
    ("group = 'all'", "got [8, 'all']"),
    ("axis = []", "unknown axis '[]': use one of channel, token"),
])  # fmt: skip
def test_quantisers_that_are_none(line, said, tmp_path):
    text = f"class it:\n    {line}\n    def quantise(self, x): return x\n    def dequantise(self, x): return x\n"
    with pytest.raises(UsageError) as caught:
        verify_here(write(tmp_path, text))
    assert said in str(caught.value)


def test_every_message_of_the_process_is_known(monkeypatch, tmp_path):
    """One that the process raises and PROBLEMS lacks would be no answer."""
    monkeypatch.setattr(wire, "PROBLEMS", set())
    with pytest.raises(NoAnswerError):
        verify_here(write(tmp_path, "def it(q, k, v): raise ValueError\n"))


@pytest.mark.parametrize(("text", "said"), [
    ("def it(q, k, v):\n    q += 1\n    return q\n", "attention changed its input q"),
    ("class it:\n    def __init__(self, w): self.w = w\n    def forward(self, ids):\n"
     "        self.w['lm_head.weight'] += 1\n        return ids\n",
     "the weights were changed by make or step: lm_head.weight (feed [3, 3, 1], step 1)"),
    ("class it:\n    def __init__(self, w): w['lm_head.weight'] += 1\n",
     "the weights were changed by make or step: lm_head.weight"),
    ("class it:\n    def __init__(self, w): w.pop('lm_head.weight')\n",
     "the weights were changed by make or step: lm_head.weight"),
    ("import numpy as np\nclass it:\n    def forward(self, ids):\n        ids.append(3)\n"
     "        return np.zeros((1, 31))\n", "step changed the list of ids that it was given"),
    ("class it:\n    def quantise(self, x): x += 1\n    def dequantise(self, x): pass\n", "quantise changed its input"),
    ("class it:\n    def update(self, layer, k, v): return k\n", "update gave ndarray, expected keys and values"),
    ("class it:\n    def __init__(self, w): raise ValueError('no\\nway')\n", "it raised ValueError: no way"),
])  # fmt: skip
def test_what_the_process_finds(text, said, tmp_path):
    found = verify_here(write(tmp_path, text))
    assert found.ended == WRONG
    assert said in found.text


RAISES = [
    ("class X:\n    def __getattr__(self, name): raise RuntimeError('no')\n"
     "    def __call__(self, q, k, v): pass\nit = X()\n", "RuntimeError: no"),
    ("class M(type):\n    @property\n    def __name__(cls): raise RuntimeError('no')\nclass it(metaclass=M): pass\n",
     "RuntimeError: no"),
    ("def __getattr__(name): raise RuntimeError('no')\n", "RuntimeError: no"),
    ("def it(q, k, v): raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    ("def it(q, k, v): raise GeneratorExit\n", "GeneratorExit"),
    ("class Own(BaseException): pass\nclass it:\n    def __init__(self): raise Own('no')\n", "Own: no"),
    ("class Own(ConnectionError):\n    def __str__(self): raise Own\nclass X:\n    def detach(self): raise Own\n"
     "def it(q, k, v): return X()\n", "Own"),
    ("class X(int):\n    def __repr__(self): raise EOFError('no')\nclass it:\n    def forward(self, ids):\n"
     "        ids.append(X())\n        return [[0.0]]\n", "EOFError: no"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), RAISES)
def test_code_that_raises_where_nothing_is_called(text, said, tmp_path):
    """Or what is no Exception: it is named, where once the process died of it."""
    found = verify_here(write(tmp_path, text))
    assert (found.ended, found.text) == (BROKEN, said)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "GeneratorExit", "type('Own', (BaseException,), {})"])
def test_a_file_that_raises_what_is_no_exception(error, tmp_path):
    with pytest.raises(FileError, match=r"cannot be imported: (KeyboardInterrupt|GeneratorExit|Own)"):
        verify_here(write(tmp_path, f"raise {error}\n"))


@pytest.mark.parametrize(("waited", "said"), [
    (lambda seconds: 3, "with exit code 3"),
    (mock.Mock(side_effect=subprocess.TimeoutExpired("x", 1)), "it closed the connection"),
])  # fmt: skip
def test_the_code_of_kvsims_own_kill_is_not_told(waited, said):
    """A process that closes the connection is waited for before it is killed."""
    child = mock.Mock()
    child.process.wait = waited
    process = Process(None, child, None, None, "KVSIM_NOWHERE=" + "0" * 32)
    assert said in describe_end(CodeEndedError(), process, Path("mine.py"), 1.0)


@pytest.mark.parametrize(("text", "said"), [
    ("import numpy as np\ndef it(q, k, v): return np.zeros(1, [(f'field {i}', 'f4') for i in range(9000)])\n",
     "the result is an array of [('field 0', '<f4'), ('field 1'"),
    ("import numpy as np\ndef it(q, k, v): return np.zeros(40 * [1])\n", "shape"),
    ("class it:\n    def forward(self, ids):\n        ids += [7] * 90000\n        return [[0.0]]\n",
     "step changed the list of ids"),
])  # fmt: skip
def test_a_problem_of_any_length_is_told(text, said, tmp_path):
    found = verify_here(write(tmp_path, text))
    assert found.ended == WRONG
    assert said in found.text
    assert len(found.text) < 2000


@pytest.mark.parametrize("line", ["axis = 90000 * 'x'", "bits = 10**4200"])
def test_what_code_says_of_itself_is_shortened(line, tmp_path):
    text = f"class it:\n    {line}\n    def quantise(self, x): return x\n    def dequantise(self, x): return x\n"
    with pytest.raises(UsageError):
        verify_here(write(tmp_path, text))


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


@pytest.mark.parametrize("kind", [wire.ATTENTION, wire.CACHE, wire.DECODER])
def test_cases_and_length_reach_every_kind_of_check(kind, monkeypatch):
    given = []
    for name in ("assert_attention", "assert_split_invariant"):
        monkeypatch.setattr(verifying, name, lambda *_, **more: given.append(more))
    verifying.check(None, {"kind": kind, "layout": "b t h d"}, Texts(cases=3, seed=5, length=40))
    assert [{name: one[name] for name in ("cases", "seed", "length")} for one in given] == [
        {"cases": 3, "seed": 5, "length": 40}
    ]
