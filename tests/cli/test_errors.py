"""Bad input: an error of one or two lines with what was expected, what was found and what to do; the exit code; no
traceback."""

import configparser
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvsim
from kvsim.cli import run
from tests.loading.folders import change_config, change_header, change_tensors, copy_demo

COMMAND = [sys.executable, "-m", "kvsim"]


def check(argv, code, said, capsys):
    assert run(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert 1 <= len(err.splitlines()) <= 2
    assert len(err) < 700
    assert "\x1b" not in err
    return err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["trace"], 2, "TEXT is missing: see kvsim trace --help"),
        (["trace", ""], 2, "the text is empty: give at least one character"),
        (["trace", "中", "-n", "0"], 2, "at least 1, got 0"),
        (["trace", "中", "-n", "-5"], 2, "at least 1, got -5"),
        (["trace", "中", "-n", "two"], 2, "--max-new-tokens takes a whole number, got 'two'"),
        (["trace", "中", "-n", "1.5"], 2, "--max-new-tokens takes a whole number, got '1.5'"),
        (["trace", "中", "-n", "1000000000000"], 2, "a context of 1024 tokens, asked for 1000000000000"),
        (["trace", "中" * 1030], 2, "use a shorter text or fewer new tokens"),
        (["trace", "中华人民", "--cache", "static:6"], 2, 'asked for 7: use "static:64" or "dynamic"'),
        (["trace", "中", "--cache", "lru"], 2, "unknown cache 'lru'"),
        (["trace", "中", "--cache", "static:9999999999999"], 2, "more than can be allocated"),
        (["trace", "中", "--feed", "all"], 2, "unknown feed 'all': use token, prefill or chunk:K"),
        (["trace", "中", "--count", "bytes"], 2, "unknown value 'bytes' of --count: use one of cells, useful"),
        (["trace", "中", "--show", "table,html"], 2, "unknown value 'html' of --show"),
        (["trace", "中", "--show", "cells", "--step", "9"], 2, "there is no step 9: this trace has steps 1 to 4"),
        (["trace", "中", "--step", "0"], 2, "there is no step 0"),
        (["trace", "中", "--show", "table", "--step", "1"], 2, "--step goes with --show cells or --show shapes"),
        (["trace", "中", "--json", "--show", "cells"], 2, "--json holds everything"),
        (["trace", "中", "--rows", "1"], 2, "--rows takes all, or a whole number of at least 2"),
        (["trace", "中", "--model", "llama-9"], 2, "no model 'llama-9'"),
        (["trace", "中", "--model", "setup.cfg"], 2, "is no model: that is a folder"),
        (["trace", "中", "--backend", "jax"], 2, "unknown backend 'jax'"),
        (["trace", "中", "--backend", "meta"], 2, "the backend meta has shapes and no values"),
        (["trace", "中", "--backend", "exact", "--device", "cuda"], 2, "exact runs on the device cpu, not on 'cuda'"),
        (["memory"], 2, "MODEL is missing: see kvsim memory --help"),
        (["memory", "llama-2-7b"], 2, "near names are llama-2-7b-hf"),
        (["memory", "gpt2", "--context", "-1"], 2, "--context takes whole numbers, as in 4096,32768, got '-1'"),
        (["memory", "gpt2", "--context", "0"], 2, "context must be a whole number of at least 1, got 0"),
        (["memory", "gpt2", "--context", "10,,20"], 2, "--context takes whole numbers"),
        (["memory", "gpt2", "--context", "1" + 19 * "0"], 2, "--context must be at most 1000000000000000000"),
        (["memory", "gpt2", "--context", "9" * 19], 2, "must be at most 1000000000000000000"),
        (["memory", "gpt2", "--batch", "-4"], 2, "batch must be a whole number of at least 1, got -4"),
        (["memory", "gpt2", "--block", "0"], 2, "block must be a whole number of at least 1, got 0"),
        (["memory", "gpt2", "--dtype", "int8"], 2, "unknown dtype 'int8': use one of float64"),
        (["memory", "gpt2", "--cache-dtype", "int2"], 2, "unknown cache dtype 'int2'"),
        (["memory", "gpt2", "--source", "5"], 2, "the model gpt2 has no encoder"),
        (["memory", "t5-small"], 2, "reads a source: give source"),
        (["plan"], 2, "MODEL is missing: kvsim plan MODEL --device NAME --context N"),
        (["plan", "gpt2"], 2, "--context is missing"),
        (["plan", "gpt2", "--context", "9"], 2, "--device is missing"),
        (["plan", "gpt2", "--context", "9", "--device", "a100"], 2, "near names are a100-40gb, a100-80gb"),
        (["plan", "gtp2", "--context", "9", "--device", "a10"], 2, "near names are gpt2"),
        (["plan", "gpt2", "--context", "-9", "--device", "a10"], 2, "--context takes whole numbers"),
        (["plan", "gpt2", "--context", "9,10", "--device", "a10"], 2, "--context was given 2 times"),
        (["plan", "gpt2", "--context", "9", "--device", "t4", "--dtype", "bfloat16"], 2, "has no peak for 'bfloat16'"),
        (["plan", "gpt2", "--context", "9", "--device", "t4", "--devices", "-1"], 2, "at least 1, got -1"),
        (["plan", "gpt2", "--context", "9", "--device", "t4", "--devices", "7"], 2, "12 heads do not split over 7"),
        (["plan", "gpt2", "--context", "9", "--device", "t4", "--utilization", "90"], 2, "at most 1, as in 0.9"),
        (["plan", "gpt2", "--context", "9", "--device", "t4", "--csv", "x"], 2, "--csv goes with --sweep"),
        (["plan", "gpt2", "--context", "9", "--device", "t4", "--batch", "2"], 2, "--batch goes with --sweep"),
        (["plan", "gpt2", "--sweep", "--device", "t4"], 2, "--context is missing"),
        (["plan", "gpt2", "--sweep", "x.json"], 2, "the file of --sweep defines the whole sweep"),
        (["plan", "--sweep", "no.json"], 4, "no.json"),
        (["doctor", "--device", "cuda"], 2, "--device goes with --gpu"),
        (["doctor", "--gpu", "--json"], 2, "--gpu prints text only: leave out --json"),
        (["trace", "中", "--device", "cuda:1"], 2, "on the device cpu, not on 'cuda:1'"),
        (["trace", "中", "--dtype", "int4"], 2, "unknown dtype 'int4'"),
        (["trace", "中", "--lang", "fr"], 2, "unknown language 'fr': use zh, en or auto"),
        (["trace", "中", "--temperature", "hot"], 2, "--temperature takes a number, got 'hot'"),
        (["trace", "中", "--temperature", "-1"], 2, "temperature must be 0"),
        (["trace", "中", "--top-k", "3"], 2, "need a temperature above 0"),
        (["trace", "中", "--temperature", "1", "--top-p", "2"], 2, "top-p must be above 0"),
        (["trace", "中", "--picture", "x.html"], 2, "unknown option --picture: see kvsim trace --help"),
        (["trace", "中", "国"], 2, "more arguments than expected: see kvsim trace --help"),
        (["trace", "\udc80"], 2, "the text is not valid UTF-8"),
        (["trace", "中", "--rows", "9" * 5000], 2, "--rows must be at most 1000000000000000000"),
        (["trace", "中", "--feed", "chunk:" + "9" * 5000], 2, "chunk must be at most 1000000000000000000"),
        (["trace", "中", "--cache", "static:" + "9" * 5000], 2, "static must be at most 1000000000000000000"),
        (["trace", "中", "--seed", "9" * 5000], 2, "--seed must be at most 1000000000000000000"),
        (["trace", "中", "--seed", "-" + "9" * 20], 2, "at least -1000000000000000000, got '-99999999999999999999'"),
        (["trace", "中", "-n", "9" * 18], 2, "a context of 1024 tokens, asked for 999999999999999999"),
        (["trace", "中", "--rows", "9" * 20], 2, "--rows must be at most 1000000000000000000"),
        (["trace", "中", "--feed", "chunk:" + "9" * 20], 2, "chunk must be at most 1000000000000000000"),
        (["memory", "gpt2", "--batch", "9" * 19], 2, "batch must be at most 1000000000000000000"),
        (["tolerance", "--context", "1000000000"], 2, "these sizes need"),
        (["tolerance", "--dtype", "float64", "--context", "1000000"], 2, "these sizes need"),
        (["tolerance", "--layers", "1000000000"], 2, "these sizes need"),
        (["tolerance", "--context", "20000"], 2, "take as long as 140035520000 multiply-accumulates, and up to 17"),
        (["tolerance", "--context", "200", "--layers", "9999"], 2, "use shorter texts, or fewer heads, layers"),
        (["explain", "mask_top_left", "--queries", "1000", "--keys", "2000"], 2, "these sizes take as long as"),
        (["explain", "mask_top_left", "--queries", "3", "--keys", "7", "--batch", "5000"], 2, "take as long as"),
        (["explain", "mask_top_left", "--cases", "300"], 2, "these sizes take as long as"),
        (["explain", "mask_top_left", "--layers", "100"], 2, "these sizes take as long as"),
        (["explain", "mask_top_left", "--heads", "1000000000", "--kv-heads", "1"], 2, "these sizes need"),
        (["explain", "mask_top_left", "--keys", "1000000000"], 2, "these sizes need"),
        (["explain", "mask_top_left", "--batch", "1000000000", "--keys", "3"], 2, "these sizes need"),
        (["explain", "mask_top_left", "--cases", "1000000000"], 2, "cases must be at most 10000"),
        (["trace", "中", "-n", "５"], 2, "takes a whole number"),
        (["trace", "中", "-n", "1_0"], 2, "takes a whole number"),
        (["trace", "中", "--temperature", "１"], 2, "takes a number"),
        (["trace", "中", "-n"], 2, "-n needs a value: see kvsim trace --help"),
        (["trace", "中", "--json=1"], 2, "--json takes no value: see kvsim trace --help"),
        (["trace", "中", "--model", "a" * 300], 2, "no model 'aaa"),
        (["trace", "中", "--model", "~nobody-here/x"], 2, "no model"),
        (["trace", "中", "--model", "a\0b"], 2, "no model"),
        (["caches", "--model", "llama-9"], 2, "no model 'llama-9' in the catalogue"),
        (["caches", "--dtype", "int4"], 2, "unknown dtype 'int4'"),
        (["caches", "demo"], 2, "more arguments than expected: see kvsim caches --help"),
        (["compare"], 2, "give the text once: as TEXT, or with --file FILE (- for stdin)"),
        (["compare", "中", "--file", "x"], 2, "give the text once"),
        (["compare", "--file", "nowhere.txt"], 4, "cannot read nowhere.txt: there is no such file"),
        (["compare", "--file", "kvsim/demo/model.safetensors"], 4, "is not valid UTF-8"),
        (["compare", "--file", "/dev/zero"], 4, "cannot read /dev/zero"),
        (["compare", "--file", "a\0b"], 4, "cannot read a\\x00b"),
        (["compare", ""], 2, "the text is empty"),
        (["compare", "中", "-n", "0"], 2, "at least 1, got 0"),
        (["compare", "中", "--cache", "lru"], 2, "unknown cache 'lru'"),
        (["compare", "中", "--cache", "window:4", "--cache", "window"], 2, "needs its size in tokens"),
        (["compare", "中" * 1030], 2, "use a shorter text or fewer new tokens"),
        (["compare", "中", "--feed", "all"], 2, "unknown feed 'all'"),
        (["compare", "\udc80"], 2, "the text is not valid UTF-8"),
        (["compare", "中", "--model", "llama-9"], 2, "no model 'llama-9'"),
        (["compare", "中", "--backend", "meta"], 2, "the backend meta has shapes and no values"),
        (["chat", "中", "--backend", "meta"], 2, "the backend meta has shapes and no values"),
        (["chat", ""], 2, "the text is empty"),
        (["chat", "中", "-n", "0"], 2, "at least 1, got 0"),
        (["chat", "中", "--cache", "lru"], 2, "unknown cache 'lru'"),
        (["chat", "中" * 600, "国" * 600], 2, "use a shorter text or fewer new tokens"),
        (["chat", "中", "--turns", "x.json"], 2, "give the turns once"),
        (["chat", "--turns", "nowhere.json"], 4, "cannot read nowhere.json: there is no such file"),
        (["chat", "--turns", "setup.cfg"], 4, "is not valid JSON"),
        (["chat", "--turns", "kvsim/demo/config.json"], 4, "must hold a JSON list of texts"),
        (["chat", "中", "--edit", "国"], 2, "--edit takes N:TEXT, a turn's number and a text, got '国'"),
        (["chat", "中", "--fork", "1:"], 2, "--fork takes N:TEXT"),
        (["chat", "中", "--fork", "2:国"], 2, "there is no turn 2: this conversation has 1"),
        (["chat", "中", "--edit", "0:国"], 2, "there is no turn 0"),
        (["chat", "\udc80"], 2, "the text is not valid UTF-8"),
        (["chat", "中", "--edit", "1:\udc80"], 2, "the text is not valid UTF-8"),
        (["chat", "中", "--separator", "\udc80"], 2, "the text is not valid UTF-8"),
        (["learn", "a" * 5000], 2, "aaaa...': use one of check, hint, init, list"),
        (["trance"], 2, "unknown command 'trance': use one of bench, caches, chat, claims, compare, cost"),
        (
            ["schema", "nothing"],
            2,
            "unknown value 'nothing' of NAME: use one of bench, caches, chat, claims, compare, cost, doctor, explain",
        ),
        (["schema"], 2, "NAME is missing"),
    ],
    ids=lambda v: " ".join(v)[:40].encode("ascii", "backslashreplace").decode() if isinstance(v, list) else None,
)
def test_usage(argv, code, said, capsys):
    check(argv, code, said, capsys)


def test_errors_in_chinese(capsys):
    assert check(["trace", "", "--lang", "zh"], 2, "文本为空", capsys) == "kvsim：错误：文本为空：请至少给一个字\n"
    check(["trace", "--lang=zh"], 2, "缺少 TEXT：见 kvsim trace --help", capsys)


def no_field(folder):
    change_config(folder, model_type=...)


def contradiction(folder):
    change_config(folder, hidden_size=32)


def truncated(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def lying_header(folder):
    change_header(folder, lambda h: h["model.norm.weight"].update(data_offsets=[0, 2**40], shape=[2**38]))


def not_a_number(folder):
    import numpy as np

    change_tensors(folder, model__norm__weight=np.full(64, np.nan, np.float32))


def no_config(folder):
    (folder / "config.json").unlink()


def hostile_name(folder):
    import numpy as np

    change_tensors(folder, **{"\x1b[2Jhi\nfoo\nbar": np.ones(3, np.float32)})


def zero_everywhere(folder):
    """Not bad: a model whose logits are all zero. See test_all_logits_zero."""
    import numpy as np

    change_tensors(folder, model__norm__weight=np.zeros(64, np.float32))


def no_json(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_field, "lacks the field model_type"),
        (contradiction, "its config.json asks for"),
        (truncated, "as safetensors"),
        (lying_header, "as safetensors"),
        (not_a_number, "holds NaN or infinite numbers"),
        (no_config, "cannot read"),
        (no_json, "is not valid JSON"),
        (hostile_name, "such as '\\x1b[2Jhi\\nfoo\\nbar'"),
    ],
)
def test_bad_files(damage, said, tmp_path, capsys):
    folder = copy_demo(tmp_path)
    damage(folder)
    check(["trace", "中", "--model", str(folder)], 4, said, capsys)


def test_all_logits_zero(tmp_path, capsys):
    folder = copy_demo(tmp_path)
    zero_everywhere(folder)
    assert run(["trace", "中", "--model", str(folder), "--lang", "en"]) == 0
    assert "differ by at most 0 (float32 allows 0)" in capsys.readouterr().out


def test_overflow_is_reported_once(tmp_path, recwarn, capsys):
    import numpy as np

    folder = copy_demo(tmp_path)
    change_tensors(folder, model__norm__weight=np.full(64, 3e38, np.float32))
    check(["trace", "中", "--model", str(folder), "--lang", "en"], 1, "use a wider dtype", capsys)
    assert not recwarn.list


def test_a_step_beyond_the_last_is_refused_before_the_run(monkeypatch, capsys):
    from kvsim.comparisons import trace as tracing

    steps, make = [], tracing.TraceStep
    monkeypatch.setattr(tracing, "TraceStep", lambda *fields: steps.append(fields) or make(*fields))
    check(["trace", "中", "-n", "500", "--step", "999", "--lang", "en"], 2, "there is no step 999", capsys)
    assert len(steps) == 1


def test_debug_shows_the_traceback():
    done = subprocess.run(
        [*COMMAND, "trace", "", "--debug"], check=False, capture_output=True, text=True, encoding="utf-8"
    )
    assert "Traceback" in done.stderr
    assert done.returncode == 2


def test_a_failed_check_is_exit_1(monkeypatch, capsys):
    from kvsim.caches.specs import POLICIES
    from tests.comparisons.test_trace import Forgetful

    monkeypatch.setitem(POLICIES, "dynamic", Forgetful)
    assert run(["trace", "中华人民", "--lang", "en"]) == 1
    assert "CHECK FAILED at step" in capsys.readouterr().out


def test_stdout_is_closed_by_the_reader():
    """`kvsim trace … | head -1`: quietly, exit 1."""
    process = subprocess.Popen([*COMMAND, "trace", "中", "-n", "40"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert err == b""


def test_ctrl_c():
    """Interrupted while it runs, as soon as the child reports that it has begun."""
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have it ignored
from kvsim.comparisons import trace as tracing
import kvsim
from kvsim.cli import run
begin = tracing.run_lockstep
def announced(*arguments, **words):
    print("begun", file=sys.stderr, flush=True)
    yield from begin(*arguments, **words)
tracing.run_lockstep = announced
sys.exit(run(["trace", "中", "-n", "1024", "--lang", "en"]))
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stderr.readline() == b"begun\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 130
    assert (out, err.strip()) == (b"", b"interrupted")


@pytest.mark.parametrize(
    "argv", [["trace", "中华人民"], ["trace", "中", "--json"], ["doctor"], ["--version"], ["--help"]]
)
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&-"])
def test_closed_streams(argv, closed):
    words = " ".join(f"'{word}'" for word in argv)
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m kvsim {words} {closed}"], capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_result_is_printed_although_stderr_is_full():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "trace", "龘"], stdout=subprocess.PIPE, stderr=full, check=False)
        wrong = subprocess.run([*COMMAND, "trace", ""], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.returncode == 0
    assert "龘" in done.stdout.decode()
    assert wrong.returncode == 2


def test_ctrl_c_in_process(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kvsim.comparisons.trace.run_lockstep", interrupt)
    assert run(["trace", "中", "--lang", "en"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "trace", "中"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_ctrl_c_while_modules_are_imported(tmp_path):
    """In code given as text, as that of a dataclass is: Python started with -m would end by SIGINT all the same."""
    (tmp_path / "interrupting.py").write_text("""
import runpy, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "kvsim.cli.options":
            exec("raise KeyboardInterrupt")
sys.meta_path.insert(0, Finder())
runpy.run_module("kvsim", run_name="__main__")
""")
    command = [sys.executable, "-m", "interrupting"]
    path = f"{tmp_path}{os.pathsep}{Path(kvsim.__file__).parents[1]}"
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"\ninterrupted\n")


def test_the_script_starts_where_python_dash_m_does():
    setup = configparser.ConfigParser()
    setup.read(Path(kvsim.__file__).parents[1] / "setup.cfg")
    assert "kvsim = kvsim.entry:main" in setup["options.entry_points"]["console_scripts"]
