"""A learner's file that loops, exits, prints, forks, deletes or patches harms nothing but itself."""

import os
import sys

import pytest

from kvsim.learn import checking
from kvsim.learn.checking import CANNOT_RUN, FAILED, NOT_STARTED, PASSED, check
from tests.learn.here import BY_ID, HERE, check_here, hand_in
from tests.learn.pack import reference_of

EXERCISE = BY_ID["attention_step"]
RIGHT = reference_of(EXERCISE).read_text(encoding="utf-8")
WRONG = (HERE / "mistakes/attention_step/scale_missing.py").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")


def write(folder, text):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "02_attention_step.py").write_bytes(data)


def told(folder, text):
    """The result in a process of its own, as learners have it."""
    write(folder, text)
    return check(EXERCISE, folder, 0)


STATIC = [
    (b"\xff\xfe\x00binary\x00" * 50, CANNOT_RUN, "is no text in UTF-8"),
    (b"x = 1\x00\n", CANNOT_RUN, "line 1 is not Python"),
    ("def attention(q, k, v)\n    return q\n", CANNOT_RUN, "line 1 is not Python: expected ':'"),
    ("(" * 5000, CANNOT_RUN, "line 1 is not Python"),
    ("#" * (2**20 + 1), CANNOT_RUN, "has 1048577 bytes"),
    ("import numpy\nimport kvsim.testing\n" + RIGHT, FAILED, "line 2 imports kvsim"),
    ("from kvsim import testing\n" + RIGHT, FAILED, "line 1 imports kvsim"),
    ("# done!\n" + (EXERCISE.folder / "stub.py").read_text(encoding="utf-8"), NOT_STARTED, "nothing is written yet"),
]


@pytest.mark.parametrize(("text", "status", "said"), STATIC, ids=range(len(STATIC)))
def test_what_is_seen_before_it_runs(text, status, said, tmp_path):
    write(tmp_path, text)
    found = check_here(EXERCISE, tmp_path)
    assert (found.status, said in found.text) == (status, True), found.text


@pytest.mark.parametrize(("text", "status", "said"), [
    ("raise SystemExit(0)\n" + RIGHT, CANNOT_RUN, "cannot be imported: SystemExit: 0"),
    ("import nothing_of_that_name\n" + RIGHT, CANNOT_RUN, "cannot be imported: ModuleNotFoundError"),
    ("def other(q, k, v):\n    return q\n", FAILED, "the file defines no attention"),
    ("attention = 3\n", FAILED, "the file defines no attention"),
    ("def attention(q, k, v):\n    return object()\n", FAILED, "attention gave object, expected numbers"),
    ("def attention(q, k, v):\n    q[:] = 0\n    return q\n", FAILED, "attention changed its argument 1"),
    ("def attention(q, k):\n    return q\n", FAILED, "attention cannot be called with 3 arguments"),
    ("\n\ndef attention(q, k, v):\n    x = 1\n    return q @ k\n", FAILED, "(line 5)"),
    ("def attention(q, k, v):\n    return q[:1]\n", FAILED, "attention gave an array of shape"),
    ("def attention(q, k, v):\n    raise SystemExit(0)\n", FAILED, "attention raised SystemExit"),
    ("def attention(q, k, v):\n    raise KeyboardInterrupt\n", CANNOT_RUN, "KeyboardInterrupt"),
    ("def attention(q, k, v):\n    raise NotImplementedError('later')\n    return q\n", NOT_STARTED, "later"),
    ("class A:\n    pass\n\n\ndef attention(q, k, v):\n    return A()\n", FAILED, "the result Thing"),
    ("def attention(q, k, v):\n    return 10**5000\n", FAILED, "attention gave int"),
    ("def attention(q, k, v):\n    return q, q, q, q\n", FAILED, "attention gave more than 3 arrays"),
    ("def attention(q, k, v):\n    return [0.1] * 30000\n", FAILED, "attention gave more numbers than are read"),
    ("def attention(q, k, v):\n    return q.astype(int)\n", FAILED, "expected floating point numbers"),
])  # fmt: skip
def test_what_its_calls_give(text, status, said, tmp_path):
    write(tmp_path, text)
    found = check_here(EXERCISE, tmp_path)
    assert (found.status, said in found.text) == (status, True), found.text


def test_a_file_that_is_not_there(tmp_path):
    found = check_here(EXERCISE, tmp_path)
    assert found.status == NOT_STARTED
    assert found.text == "there is no file 02_attention_step.py: kvsim learn reset attention_step writes it"


def test_the_folder_takes_no_modules_place(tmp_path):
    """And print is told, and input() finds nothing."""
    for name in ("json", "numpy", "socket", "signal", "random", "kvsim"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    (tmp_path / "helper.py").write_text("HALF = 0.5\n", encoding="utf-8")
    text = RIGHT.replace("np.sqrt(d)", "d ** helper.HALF").replace("import numpy", "import helper\nimport numpy")
    found = told(tmp_path, text + "try:\n    input()\nexcept EOFError:\n    print('no input')\n")
    assert (found.status, found.text) == (PASSED, "")
    assert found.printed == "no input\n"


def test_nothing_that_it_patches_makes_it_right(tmp_path):
    patch = """
import os, sys
for name, module in list(sys.modules.items()):
    if name.startswith("kvsim"):
        for one in list(vars(module)):
            if one in ("equal", "check", "assert_attention", "is_stub", "array_equal"):
                setattr(module, one, lambda *a, **k: True)
os.write(1, b'{"status": "passed"}')
"""
    found = told(tmp_path, WRONG + patch)
    assert (found.status, found.diagnosis, found.printed) == (FAILED, ("scale_missing",), '{"status": "passed"}')


def test_it_may_end_its_process_and_delete_itself(tmp_path):
    found = told(tmp_path, RIGHT + "import os\nos.unlink(__file__)\nos._exit(3)\n")
    assert (found.status, found.text) == (CANNOT_RUN, "it ended its own process, with exit code 3")
    assert list(tmp_path.iterdir()) == []


def test_a_gigabyte_of_output(tmp_path):
    """Of which a part is kept; here in 64 MB, which is read and dropped the same way."""
    found = told(tmp_path, RIGHT + "import sys\nfor _ in range(64):\n    sys.stdout.write('x' * 10**6)\n")
    assert found.status == PASSED
    assert len(found.printed) <= 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_an_endless_loop_and_what_it_forked(tmp_path, monkeypatch):
    """The time limit ends it, and its children, of which one had left the process group."""
    monkeypatch.setattr(checking, "SECONDS", 1.5)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    text = f"""
import os, time
held = os.open({str(pipe)!r}, os.O_WRONLY)
for alone in (False, True):
    if os.fork() == 0:
        if alone:
            os.setsid()
        time.sleep(600)


def attention(q, k, v):
    while True:
        pass
"""
    found = told(tmp_path, text)
    assert found.status == CANNOT_RUN
    assert "it did not end within 1.5 s" in found.text
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # everyone who held the other end is gone
    os.close(reader)


def test_a_cache_may_not_call_what_it_was_not_given(tmp_path):
    exercise = BY_ID["kv_cache"]
    hand_in(exercise, reference_of(exercise), tmp_path)
    file = tmp_path / "04_kv_cache.py"
    text = file.read_text(encoding="utf-8")
    for before, after, said in [
        (
            "project(layer, x[:, seen:])",
            "project(layer, x[0])",
            "project takes layer 0, rows [batch, tokens, 24], got layer 0, rows [3, 24]",
        ),
        ("project(layer, x[:, seen:])", "project(1 - layer, x[:, seen:])", "project takes layer 0"),
        ("project(layer, x[:, seen:])", "project(layer)", "project is called with other arguments"),
        ("project(layer, x[:, seen:])", "(x[:, None, seen:, :8].repeat(2, 1),) * 2", ""),
    ]:
        file.write_text(text.replace(before, after), encoding="utf-8")
        found = check_here(exercise, tmp_path)
        assert (found.status, said in found.text) == (FAILED, True), found.text
