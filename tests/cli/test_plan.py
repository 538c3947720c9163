"""`kvsim plan`: JSON that its schema describes, notes, sweeps into files, partial results, nothing heavy."""

import json
import subprocess
import sys

import jsonschema
import pytest

from kvsim.cli import run
from kvsim.costs.plans import sweep
from kvsim.costs.plans.planning import plan
from kvsim.costs.plans.sweep import make_grid, make_rows
from kvsim.errors import BackendError
from kvsim.views.terminal.sweep import to_csv

LLAMA = ["plan", "llama-2-7b-hf", "--device", "a10", "--context", "4096"]
CASES = [
    LLAMA,
    ["plan", "gemma-3-27b-pt", "--device", "h200", "--context", "32768", "--cache-dtype", "int8:zero"],
    ["plan", "deepseek-v3", "--device", "t4", "--context", "10", "--dtype", "int4", "--utilization", "0.25"],
    ["plan", "mistral-7b-v0.1", "--device", "tpu-v4", "--context", "999"],
    ["plan", "whisper-tiny", "--device", "cpu", "--context", "99", "--source", "1500"],
    ["plan", "gpt2", "llama-2-7b-hf", "--sweep", "--device", "t4", "--device", "h200", "--context", "9", "--dtype",
     "bfloat16"],
]  # fmt: skip


@pytest.mark.parametrize("argv", CASES, ids=" ".join)
def test_json_is_what_the_schema_says(argv, capsys):
    assert run(["schema", "plan"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert run([*argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    jsonschema.validate(json.loads(out, parse_float=lambda text: pytest.fail(f"a float: {text}")), described)


def test_json_holds_the_plan(capsys):
    run([*LLAMA, "--json", "--devices", "2"])
    told = json.loads(capsys.readouterr().out)
    found = plan("llama-2-7b-hf", "a10", 4_096, devices=2)
    assert told["fits"] == [fit._asdict() for fit in found.fits]
    assert told["kv_heads"] == {"model": 32, "device": 16, "copied": False}
    assert (told["weight_bytes"], told["request_bytes"]) == (found.setup.weight_bytes, found.request_bytes)


def test_what_does_not_fit_is_an_answer(capsys):
    argv = ["plan", "llama-2-7b-hf", "--device", "t4", "--context", "4096", "--lang", "en"]
    assert run(argv) == 0
    missing = 13_476_831_232 + 4_096 * 524_288 - 15_843_721_216
    assert missing < 0
    assert "are missing" not in capsys.readouterr().out
    assert run([*argv[:-3], "8192", *argv[-2:]]) == 0
    out, err = capsys.readouterr()
    assert f"weights and one request do not fit, {13_476_831_232 + 8_192 * 524_288 - 16 * 10**9:,} B = " in out
    assert "beyond the model's 4,096" in err


def test_a_sweep_into_a_file(tmp_path, capsys):
    (tmp_path / "s.json").write_text('{"models": ["gpt2"], "devices": ["a10", "t4"], "contexts": [5, 6]}')
    argv = ["plan", "--sweep", str(tmp_path / "s.json"), "--csv", str(tmp_path / "out.csv"), "--lang", "en"]
    assert run(argv) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{tmp_path / 'out.csv'}: 4 rows\n")
    grid = make_grid(["gpt2"], ["a10", "t4"], [5, 6])
    assert (tmp_path / "out.csv").read_text() == to_csv(make_rows(grid, 0, 4))
    (tmp_path / "s.json").write_text('{"models": ["gpt2"], "devices": ["a10"], "contexts": [5], "batchs": [1]}')
    assert run(argv) == 4
    assert "unknown key 'batchs'" in capsys.readouterr().err


def test_partial_results_are_kept_and_called_that(tmp_path, monkeypatch, capsys):
    def broken(grid, scheduler):
        yield make_rows(grid, 0, 2)
        raise BackendError("a worker failed: {reason}", reason="x")

    monkeypatch.setattr(sweep, "run_sweep", broken)
    argv = ["plan", "gpt2", "--sweep", "--device", "a10", "--context", "5,6,7", "--lang", "en"]
    file = tmp_path / "out.csv"
    assert run([*argv, "--csv", str(file)]) == 3
    assert not file.exists()
    kept = make_rows(make_grid(["gpt2"], ["a10"], [5, 6, 7]), 0, 2)
    assert (tmp_path / "out.csv.partial").read_text() == to_csv(kept)
    out, err = capsys.readouterr()
    assert err.endswith("kvsim: error: a worker failed: x\npartial: the first 2 of 3 rows are kept\n")
    assert run([*argv, "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == [list(row) for row in kept]
    assert "partial: the first 2 of 3 rows" in err


def test_nothing_heavy():
    code = f"import sys; from kvsim.cli import run; run({LLAMA}); print({{'numpy', 'distributed'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
