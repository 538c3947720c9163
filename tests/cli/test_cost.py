"""`kvsim cost`: prints what was counted; JSON that matches its schema; bars; bad input."""

import json
import re
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.cli import run
from kvsim.costs.work.by_context import choose_contexts, measure_by_context
from kvsim.costs.work.cost import cost
from kvsim.costs.work.roofline import Limits
from kvsim.i18n.language import words
from kvsim.views.terminal.bars import WIDTH, to_bars
from kvsim.views.terminal.screen import Screen
from tests.test_house import loaded_by

SCHEMA = json.loads((Path(kvsim.__file__).parent / "schemas" / "cost-1.json").read_text(encoding="utf-8"))
LLAMA = ["cost", "llama-2-7b-hf", "--prompt", "100", "--new", "9"]


def read_json(capsys, *argv):
    assert run([*argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    found = json.loads(out)
    jsonschema.validate(found, SCHEMA)
    return found, err


@pytest.mark.parametrize(
    "argv",
    [
        ["gpt2"], ["gpt2", "--new", "1"], ["mixtral-8x7b-v0.1", "--device", "h100", "--plot"],
        ["deepseek-v3", "--latent", "absorbed", "--convention", "last"], ["t5-small", "--source", "33"],
        ["whisper-tiny", "--source", "1500", "--device", "t4", "--dtype", "float32"],
        ["gemma-3-27b-pt", "--cache", "none"],
        ["gpt-oss-20b", "--cache", "window:64", "--convention", "causal"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_json_matches_its_schema_and_the_counts(argv, capsys):
    found, _ = read_json(capsys, "cost", *argv)
    options = dict(zip(argv[1::2], argv[2::2], strict=False))
    expected = cost(
        argv[0], prompt=512, new=int(options.get("--new", 128)), cache=options.get("--cache", "dynamic"),
        dtype=options.get("--dtype", "bfloat16"), latent=options.get("--latent"),
        source=int(options["--source"]) if "--source" in options else None,
    )  # fmt: skip
    assert set(found["ratio"]) == set(found["conventions"])
    for name, side in (("with_cache", expected.cached), ("without_cache", expected.uncached)):
        for part in ("prefill", "decode", "total"):
            phase, got = getattr(side, part), found[name][part]
            assert (got["steps"], got["tokens"]) == (phase.steps, phase.fed)
            moved = phase.moved
            assert got["bytes"] == {**moved._asdict(), "total": moved.weights + moved.kv_read + moved.kv_written}
            for convention in found["conventions"]:
                flops = got[convention]
                assert flops["flops"] == phase.flops(convention) == 2 * flops["macs"]
                assert sum(flops["by_site"].values()) == sum(flops["by_kind"].values()) == flops["flops"]
                inside = sum(kind["flops"] for kind in flops["by_layer_kind"])
                assert inside == sum(f for site, f in flops["by_site"].items() if site.startswith("layers."))
    layers = [
        i for kind in found["with_cache"]["total"][found["conventions"][-1]]["by_layer_kind"] for i in kind["layers"]
    ]
    assert sorted(layers) == list(range(expected.config.n_layers))


def test_the_schema_refuses_what_it_does_not_know(capsys):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found, _ = read_json(capsys, *LLAMA)
    for path in ((), ("with_cache",), ("with_cache", "decode"), ("with_cache", "decode", "last"), ("crossover",)):
        part = found
        for key in path:
            part = part[key]
        part["more"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(found, SCHEMA)
        del part["more"]
    assert run(["schema", "cost"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_a_single_convention(capsys):
    for convention in ("square", "causal", "last"):
        assert run([*LLAMA, "--convention", convention, "--lang", "en"]) == 0
        out = capsys.readouterr().out
        others = {"square", "causal", "last"} - {convention}
        body = "\n".join(
            line for line in out.splitlines() if not line.startswith((f"{convention}: ", "KV cache after"))
        )
        assert f"{cost('llama-2-7b-hf', prompt=100, new=9).cached.prefill.flops(convention):,}" in body
        assert not any(re.search(rf"\b{other}\b", body) for other in others)


def test_the_roofline(capsys):
    """Overhead once a step; both times apart."""
    argv = [*LLAMA, "--device", "a10", "--convention", "last"]
    plain, _ = read_json(capsys, *argv)
    slow, _ = read_json(capsys, *argv, "--overhead", "0.01")
    roofline = plain["roofline"]
    assert (roofline["peak_flops_per_second"], roofline["bandwidth_bytes_per_second"]) == (125 * 10**12, 600 * 10**9)
    assert roofline["ridge_flops_per_byte"] == 125_000 / 600
    for name in ("with_cache", "without_cache"):
        for part, steps in (("prefill", 1), ("decode", 8)):
            one, other = roofline[name]["last"][part], slow["roofline"][name]["last"][part]
            assert other["seconds"] == pytest.approx(one["seconds"] + 0.01 * steps, rel=1e-12)
            assert one["compute_bound_steps"] + one["memory_bound_steps"] == steps
    cached = cost("llama-2-7b-hf", prompt=100, new=9).cached
    moved = cached.decode.moved.total
    assert roofline["with_cache"]["last"]["decode"]["seconds"] == pytest.approx(moved / 600e9, rel=1e-12)
    prefill, decode = cached.bounds(Limits(125 * 10**12, 600 * 10**9, Fraction(1, 100)), "last")
    assert run([*argv, "--overhead", "0.01", "--lang", "en"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "│ last" in line and "cached" in line)
    assert f"{1000 * float(prefill.seconds):,.3f}" in row
    assert f"{1000 * float(decode.seconds) / 8:,.3f}" in row


def test_beyond_the_context_is_a_note_on_stderr(capsys):
    found, err = read_json(capsys, "cost", "gpt2", "--prompt", "1000", "--new", "25", "--lang", "en")
    assert (found["beyond_context"], err) == (False, "")
    found, err = read_json(capsys, "cost", "gpt2", "--prompt", "1000", "--new", "26", "--lang", "en")
    assert found["beyond_context"]
    assert err == "note: 1,025 tokens are beyond the context of gpt2, 1,024: counted anyway\n"
    _, err = read_json(capsys, "cost", "whisper-tiny", "--source", "1501", "--prompt", "4", "--lang", "en")
    assert err == "note: a source of 1,501 positions is beyond the encoder's 1,500: counted anyway\n"
    found, err = read_json(capsys, "cost", "llama-2-7b-hf", "--prompt", "1000000000000", "--lang", "en")
    assert found["with_cache"]["kv_bytes"] == (10**12 + 127) * 524_288


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 63, 64, 65, 4_223, 10**12])
def test_contexts_of_a_plot(last):
    contexts = choose_contexts(last, 12)
    assert contexts == sorted(set(contexts))
    assert (contexts[0], contexts[-1]) == (1, last)
    assert len(contexts) <= 13


def test_a_plot_shows_the_steps(capsys):
    found = cost("gpt2", prompt=100, new=20)
    points = measure_by_context(found, "causal")
    assert [p.context for p in points] == [1, 2, 4, 8, 16, 32, 64, 119]
    for p in points:
        assert p.uncached == cost("gpt2", prompt=p.context).cached.prefill.flops("causal")
        if p.context > 1:
            assert p.cached == cost("gpt2", prompt=p.context - 1, new=2).cached.decode.flops("causal")
    bars = to_bars(points, "causal", words("en"), Screen(ascii_only=True)).splitlines()[2:]
    cells = [line.count("#") + line.count(".") for line in bars]
    values = [value for p in points for value in (p.cached, p.uncached)]
    assert max(cells) == cells[values.index(max(values))] == WIDTH
    assert min(cells) == cells[values.index(min(values))] == 1
    assert [cells[i] for i in sorted(range(len(values)), key=values.__getitem__)] == sorted(cells)
    found, _ = read_json(capsys, "cost", "gpt2", "--prompt", "100", "--new", "20", "--plot", "--convention", "causal")
    assert found["growth"] == {"convention": "causal", "points": [p._asdict() for p in points]}
    assert measure_by_context(cost("gpt2", prompt=10**18, new=10**18), "last")[-1].context == 10**18
    one = to_bars(measure_by_context(cost("gpt2", prompt=1), "last"), "last", words("en"))  # no span at all
    assert one.count("█") == 2


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["gtp2"], 2, "near names are gpt2"),
        (["gpt2", "--device", "a11"], 2, "no device 'a11' in the catalogue: near names are"),
        (["gpt2", "--device", "t4"], 2, "the device t4 has no peak for 'bfloat16': it has float64, float32, float16"),
        (["gpt2", "--prompt", "-3"], 2, "prompt must be a whole number of at least 1, got -3"),
        (["gpt2", "--prompt", "many"], 2, "--prompt takes a whole number, got 'many'"),
        (["gpt2", "--new", "0"], 2, "new must be a whole number of at least 1, got 0"),
        (["gpt2", "--convention", "round"], 2, "of --convention: use one of square, causal, last, all"),
        (["gpt2", "--dtype", "int8"], 2, "unknown dtype 'int8'"),
        (["gpt2", "--latent", "absorbed"], 2, "no latent attention"),
        (["gpt2", "--source", "3"], 2, "the model gpt2 has no encoder"),
        (["t5-small"], 2, "reads a source"),
        (["gpt2", "--cache", "abacus"], 2, "unknown cache 'abacus'"),
        (["gpt2", "--cache", "static:5"], 2, "holds 5 tokens, asked for 639"),
        (["gpt2", "--overhead", "1"], 2, "--overhead goes with --device"),
        (["gpt2", "--device", "a10", "--overhead", "-1"], 2, "--overhead takes seconds, at least 0, got -1.0"),
        (["gpt2", "--device", "a10", "--overhead", "nan"], 2, "got nan"),
        (["--plot", "gpt2"], 2, "--plot takes a file that ends in .svg, .png or .pdf, got 'gpt2'"),
        ([], 2, "MODEL is missing"),
    ],
)  # fmt: skip
def test_bad_input(argv, code, said, capsys):
    assert run(["cost", *argv, "--lang", "en"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_it_loads_no_array_library():
    """What keeps the whole process quick."""
    for model in ("llama-2-7b-hf", "deepseek-v3"):
        code = f"from kvsim.cli import run; run(['cost', '{model}', '--device', 'h100', '--plot'])"
        assert not loaded_by(code) & {"numpy", "safetensors", "kvsim.loading.loader", "matplotlib"}


def test_a_config_json_will_do(tmp_path, capsys):
    from kvsim.costs.public.models import read_catalogue

    (tmp_path / "config.json").write_text(json.dumps(read_catalogue()["gpt2"]["config"]))
    mine, _ = read_json(capsys, "cost", str(tmp_path))
    theirs, _ = read_json(capsys, "cost", "gpt2")
    assert mine["model"] == tmp_path.name
    assert mine["with_cache"] == theirs["with_cache"]
