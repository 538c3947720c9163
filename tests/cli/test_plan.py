"""`kvsim plan`: JSON that matches its schema, notes, sweeps into files, partial results, nothing heavy."""

import json
import subprocess
import sys

import jsonschema
import pytest

from kvsim.cli import run
from kvsim.costs.plans import sweep
from kvsim.costs.plans.grid import Axes, make_grid
from kvsim.costs.plans.planning import plan
from kvsim.costs.plans.sweep import make_rows
from kvsim.errors import BackendError
from kvsim.schemas import read_schema
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
    ["plan", "mistral-7b-v0.1", "--sweep", "--device", "t4", "--context", "9", "--utilization", "0.25", "--utilization",
     "1"],
]  # fmt: skip


@pytest.mark.parametrize("argv", CASES, ids=" ".join)
def test_json_matches_its_schema(argv, capsys):
    """One line, valid by its own schema, without a float but for a utilization below 1."""
    assert run(["schema", "plan-sweep" if "--sweep" in argv else "plan"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert run([*argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    floats = []
    jsonschema.validate(json.loads(out, parse_float=lambda text: floats.append(text) or float(text)), schema)
    assert floats == ["0.25"] * argv.count("0.25")


def test_the_schemas_refuse_texts_for_numbers(capsys):
    for name, argv in (("plan", LLAMA), ("plan-sweep", [*LLAMA[:2], "--sweep", *LLAMA[2:]])):
        schema = json.loads(read_schema(name))
        assert run([*argv, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        jsonschema.validate(found, schema)
        wrong = found if name == "plan" else found["rows"][0]
        for key in ("utilization", "context"):
            place = key if name == "plan" else found["columns"].index(key)
            right, wrong[place] = wrong[place], "1"
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(found, schema)
            wrong[place] = right


@pytest.mark.parametrize(("given", "number"), [("1", 1), ("1.0", 1), ("0.9", 0.9), ("0.125", 0.125)])
def test_a_utilization_is_a_number(given, number, capsys):
    for argv in (LLAMA, [*LLAMA[:2], "--sweep", *LLAMA[2:]]):
        assert run([*argv, "--utilization", given, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        record = found if argv is LLAMA else dict(zip(found["columns"], found["rows"][0], strict=True))
        value = record["utilization"]
        assert value == number
        assert type(value) is type(number)


def test_json_holds_the_plan(capsys):
    run([*LLAMA, "--json", "--devices", "2"])
    record = json.loads(capsys.readouterr().out)
    found = plan("llama-2-7b-hf", "a10", 4_096, devices=2)
    assert record["fits"] == [fit._asdict() for fit in found.fits]
    assert record["kv_heads"] == {"model": 32, "device": 16, "copied": False}
    assert (record["weight_bytes"], record["request_bytes"]) == (found.setup.weight_bytes, found.request_bytes)


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
    grid = make_grid(Axes(["gpt2"], ["a10", "t4"], [5, 6]))
    assert (tmp_path / "out.csv").read_text() == to_csv(make_rows(grid, 0, 4))
    (tmp_path / "s.json").write_text('{"models": ["gpt2"], "devices": ["a10"], "contexts": [5], "batchs": [1]}')
    assert run(argv) == 4
    assert "unknown key 'batchs'" in capsys.readouterr().err


def test_partial_results_are_kept_and_reported(tmp_path, monkeypatch, capsys):
    def broken(grid, scheduler):
        yield make_rows(grid, 0, 2)
        raise BackendError("a worker failed: {reason}", reason="x")

    monkeypatch.setattr(sweep, "run_sweep", broken)
    argv = ["plan", "gpt2", "--sweep", "--device", "a10", "--context", "5,6,7", "--lang", "en"]
    file = tmp_path / "out.csv"
    assert run([*argv, "--csv", str(file)]) == 3
    assert not file.exists()
    kept = make_rows(make_grid(Axes(["gpt2"], ["a10"], [5, 6, 7])), 0, 2)
    assert (tmp_path / "out.csv.partial").read_text() == to_csv(kept)
    out, err = capsys.readouterr()
    assert err.endswith("kvsim: error: a worker failed: x\npartial: the first 2 of 3 rows are kept\n")
    assert run([*argv, "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == [[*row[:5], 1, *row[6:]] for row in kept]
    assert "partial: the first 2 of 3 rows" in err


def test_a_place_for_partial_results_is_tried_first(tmp_path, monkeypatch, capsys):
    """And the name of the file is printed in one line."""
    argv = ["plan", "gpt2", "--sweep", "--device", "a10", "--context", "5", "--lang", "en", "--csv"]
    file = tmp_path / "a\nb.csv"
    assert run([*argv, str(file)]) == 0
    assert capsys.readouterr().err == f"{tmp_path}/a↵b.csv: 1 rows\n"
    (tmp_path / "c.csv.partial").mkdir()
    monkeypatch.setattr(sweep, "run_sweep", lambda *_: pytest.fail("it is too late"))
    assert run([*argv, str(tmp_path / "c.csv")]) == 4
    assert "c.csv.partial: Is a directory" in capsys.readouterr().err


def test_nothing_heavy():
    code = f"import sys; from kvsim.cli import run; run({LLAMA}); print({{'numpy', 'distributed'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
