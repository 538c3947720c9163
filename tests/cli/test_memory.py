"""`kvsim memory`: JSON that matches its schema, notes on stderr, contexts, nothing heavy."""

import json
import subprocess
import sys

import jsonschema
import pytest

from kvsim.cli import run
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.public.models import read_catalogue
from kvsim.views.terminal.text import in_units

CASES = [
    ["llama-2-7b-hf"],
    ["gemma-3-27b-pt", "--context", "1000,4096", "--batch", "3", "--block", "7"],
    ["deepseek-v3", "--cache-dtype", "int8:zero"],
    ["whisper-tiny", "--source", "1500", "--cache-dtype", "fp8", "--context", "300"],
    ["t5-small", "--source", "9"],
]


def schema(capsys):
    assert run(["schema", "memory"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("argv", CASES, ids=" ".join)
def test_json_matches_its_schema(argv, capsys):
    described = schema(capsys)
    assert run(["memory", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == ""
    found = json.loads(out, parse_float=lambda text: pytest.fail(f"a float: {text}"))
    jsonschema.validate(found, described)
    assert sum(found["parameters"]["groups"].values()) == found["parameters"]["total"]
    item = {"float16": 2, "bfloat16": 2}[found["dtype"]]
    assert found["weight_bytes"] == item * found["parameters"]["total"]


def test_json_and_table_agree(capsys):
    argv = ["memory", "gemma-3-27b-pt", "--context", "32768", "--batch", "2"]
    run([*argv, "--json"])
    found = json.loads(capsys.readouterr().out)["contexts"][0]
    held = measure_memory("gemma-3-27b-pt", [32_768], batch=2).contexts[0]
    run([*argv, "--lang", "en"])
    table = capsys.readouterr().out
    for name in ("logical", "paged", "reserved", "everywhere"):
        size = getattr(held, name)
        assert found[name] == size
        assert f"{size:,} │" in table
    assert found["quantised"] is None


def test_a_context_beyond_the_models_is_counted_with_a_note(capsys):
    assert run(["memory", "gpt2", "--context", "1024,1025", "--json", "--lang", "en"]) == 0
    out, err = capsys.readouterr()
    assert err == "note: a context of 1,025 is beyond the model's 1,024: counted anyway\n"
    contexts = json.loads(out)["contexts"]
    assert [held["beyond_model"] for held in contexts] == [False, True]
    assert contexts[1]["logical"] == 1_025 * 36_864


def test_contexts_by_default(capsys):
    for name, contexts in (("gpt2", [1_024]), ("llama-3.1-8b", [4_096, 32_768, 131_072]), ("llama-2-7b-hf", [4_096])):
        assert run(["memory", name, "--json"]) == 0
        assert [held["context"] for held in json.loads(capsys.readouterr().out)["contexts"]] == contexts
    assert run(["memory", "t5-small", "--source", "1", "--json"]) == 0  # whose positions have no end
    assert [h["context"] for h in json.loads(capsys.readouterr().out)["contexts"]] == [4_096, 32_768, 131_072]


def test_a_trillion_tokens(capsys):
    assert run(["memory", "llama-2-7b-hf", "--dtype", "float16", "--context", "1000000000000", "--lang", "en"]) == 0
    assert "524,288,000,000,000,000 │ 488,281,250.000 │ 524,288,000.000 │" in capsys.readouterr().out


def test_files_and_folders(tmp_path, capsys):
    facts = read_catalogue()["gpt2"]["config"]
    (tmp_path / "config.json").write_text(json.dumps(facts))
    for path in (tmp_path, tmp_path / "config.json"):
        assert run(["memory", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["parameters"]["total"] == 124_439_808
    assert run(["memory", str(tmp_path), "-v", "--lang", "en"]) == 0
    assert f"source of these fields: {tmp_path}" in capsys.readouterr().out
    (tmp_path / "config.json").write_text("{")
    assert run(["memory", str(tmp_path)]) == 4
    assert run(["memory", "demo"]) == 0


@pytest.mark.parametrize("name", [name for name in read_catalogue() if "config" in read_catalogue()[name]])
def test_every_model_of_the_catalogue(name, capsys):
    source = ["--source", "100"] if read_catalogue()[name]["config"].get("is_encoder_decoder") else []
    assert run(["memory", name, *source, "--lang", "en"]) == 0
    assert " B = " in capsys.readouterr().out


def test_numpy_is_not_needed():
    """Weights and caches of a mixture with latents, counted and printed, without an array library."""
    code = (
        "import sys; from kvsim.cli import run; run(['memory', 'deepseek-v3']); print('numpy' in sys.modules,"
        " 'rich.progress' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize(
    ("count", "unit", "said"),
    [
        (0, 2**30, "0.000"),
        (1, 2**30, "0.000000000931"),
        (13_476_831_232, 2**30, "12.551"),
        (13_476_831_232, 10**9, "13.477"),
        (99_949_999, 10**9, "0.0999"),
        (10**8, 10**9, "0.100"),
        (1_000_500_000, 10**9, "1.001"),
        (70_272 * 10**12, 10**9, "70,272,000.000"),
        ((10**18 - 1) * 524_288, 10**9, "524,287,999,999,999.999"),
    ],
)
def test_units(count, unit, said):
    assert in_units(count, unit) == said


@pytest.mark.parametrize(
    "argv",
    [
        ["memory", "llama-2-13b-hf"],
        ["cost", "llama-2-13b-hf", "--prompt", "5", "--new", "3"],
        ["plan", "llama-2-13b-hf", "--device", "a10", "--context", "4096"],
    ],
)
def test_fields_that_a_config_leaves_out_are_listed_with_v(argv, capsys):
    assert run([*argv, "--lang", "en"]) == 0
    assert "left out" not in capsys.readouterr().err
    assert run([*argv, "--lang", "en", "-v"]) == 0
    found = capsys.readouterr().err
    assert (
        "defaults of fields that the config.json of llama-2-13b-hf leaves out: head_dim = 128, rope_theta = 10000.0"
        in found
    )
