"""`kvsim.count` against the brute-force sum over steps, on shapes and on numbers; the catalogue."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.arrays import get_backend
from kvsim.blueprint import build_weights
from kvsim.costs.public.models import find_config, read_catalogue
from kvsim.counting.ledger import Totals, total
from kvsim.doctor.against_numpy import FEATURES, IDS, SOURCE, make
from kvsim.errors import FileError, UsageError
from kvsim.loading.families import FAMILIES
from kvsim.model import Model
from tests.arrays.runs import ZOO, macs_by_site
from tests.counting.closed_form import step_macs
from tests.models import PRIMES, configs

CACHES = ("dynamic", "none", "static:99")


def shapes(config, dtype="float32"):
    backend = get_backend("meta")
    weights = build_weights(config, lambda name, shape: backend.xp.empty(shape, dtype=dtype))
    return Model(config, weights, backend=backend, dtype=dtype)


def brute_force(config, prompt, new, spec, source=None):
    """The loop of `generate` on shapes, one step after another: events by step, and the cache."""
    model = shapes(config)
    cache, steps, states = model.new_cache(spec), [], None
    for stop in range(prompt, prompt + new):
        with model.count() as ledger:
            if config.encoder is not None and states is None:
                given = {"ids": [1] * source}
                if config.encoder.audio is not None:
                    given = {"features": model.ops.xp.empty((config.encoder.audio.n_mels, 2 * source), dtype="float32")}
                states = model.encode(**given)
            model([0] * (stop - cache.seen), cache, **({} if states is None else {"encoder_states": states}))
        steps.append(ledger.events)
    return steps, cache


def by_site(events):
    groups = {}
    for event in events:
        groups.setdefault(event.site, []).append(event)
    return {site: total(of) for site, of in groups.items()}


def check(config, prompt, new, spec, source=None):
    steps, cache = brute_force(config, prompt, new, spec, source)
    counted = kvsim.count(config, prompt=prompt, new=new, cache=spec, **({"source": source} if source else {}))
    assert counted.by("site") == by_site([event for step in steps for event in step])
    assert counted.kv_bytes == cache.logical_bytes
    for number, events in enumerate(steps, start=1):
        step = counted.step(number)
        assert step.by("site") == by_site(events)
        assert (step.macs, step.useful_macs) == (total(events).macs, total(events).useful_macs)
        assert step.flops == 2 * step.macs
    whole = total(event for step in steps for event in step)
    assert (counted.macs, counted.useful_macs, counted.flops) == (whole.macs, whole.useful_macs, whole.flops)
    assert counted.sums.calls == whole.calls


@settings(max_examples=60)
@given(config=configs(), prompt=st.integers(1, 12), new=st.integers(1, 12), spec=st.sampled_from(CACHES))
def test_any_model_is_the_sum_over_its_steps(config, prompt, new, spec):
    check(replace(config, max_context=64), prompt, new, spec)


@pytest.mark.parametrize("spec", CACHES)
@pytest.mark.parametrize("name", ZOO)
def test_every_family_is_the_sum_over_its_steps(name, spec):
    config = ZOO[name]
    check(replace(config, max_context=99), 5, 9, spec, source=None if config.encoder is None else 8)


@pytest.mark.parametrize("spec", ["dynamic", "none"])
@pytest.mark.parametrize("name", ZOO)
def test_what_really_ran(name, spec):
    """NumPy's own ledger of `generate`: not shapes, but products."""
    config, source = ZOO[name], {}
    prompt, n_prompt = IDS[:4], 4
    if config.encoder is not None:
        prompt, n_prompt, source = (FEATURES, 1, {"source": 9}) if config.encoder.audio else (SOURCE, 1, {"source": 9})
    run = kvsim.generate(make(config, "numpy", "float64"), prompt, max_new_tokens=5, cache=spec)
    counted = kvsim.count(config, prompt=n_prompt, new=5, cache=spec, dtype="float64", **source)
    assert {site: totals.macs for site, totals in counted.by("site").items()} == macs_by_site(run.ledger.events)
    assert counted.macs == run.ledger.macs
    assert counted.kv_bytes == run.cache.logical_bytes


def test_the_closed_form_written_by_hand():
    counted = kvsim.count(PRIMES, prompt=7, new=5)
    for number in range(1, 6):
        new, stop = (7, 7) if number == 1 else (1, 6 + number)
        assert counted.step(number).macs == sum(step_macs(PRIMES, new, stop).values())
    assert counted.step(3).fed == 1
    assert counted.step(3).seen == 8
    uncached = kvsim.count(PRIMES, prompt=7, new=5, cache="none")
    assert [uncached.step(i).fed for i in range(1, 6)] == [7, 8, 9, 10, 11]
    assert uncached.macs == sum(sum(step_macs(PRIMES, t, t).values()) for t in range(7, 12))
    assert uncached.kv_bytes == 0


def test_llama_405b_is_the_sum_over_steps():
    """All 126 layers one by one, on few tokens; and the large count by hand."""
    name, config = find_config("llama-3.1-405b")
    for spec in ("dynamic", "none"):
        steps, cache = brute_force(config, 9, 3, spec)
        counted = kvsim.count(name, prompt=9, new=3, cache=spec, dtype="float32")
        assert counted.by("site") == by_site([event for step in steps for event in step])
        assert counted.kv_bytes == cache.logical_bytes
    large = kvsim.count(name, prompt=130_072, new=1_000, dtype="bfloat16")
    assert large.kv_bytes == 131_071 * 516_096
    assert large.macs == sum(sum(step_macs(config, *step).values()) for step in steps_of(130_072, 1_000))
    uncached = kvsim.count(name, prompt=130_072, new=1_000, cache="none", dtype="bfloat16")
    assert uncached.macs == sum(sum(step_macs(config, t, t).values()) for t in range(130_072, 131_072))


def steps_of(prompt, new):
    return [(prompt, prompt), *((1, prompt + i) for i in range(1, new))]


def test_known_figures():
    """Llama-2-7B: 13,214,154,752 + 524,288·c FLOPs for a token at context c (the tokens before it
    and itself); a prefill of 4,096 in full squares 62,921,270,886,400; bytes a token of three models."""
    llama = kvsim.count("llama-2-7b-hf", prompt=4_096, new=3, dtype="float16")
    assert llama.step(1).flops == 62_921_270_886_400
    assert llama.step(2).flops == 13_214_154_752 + 524_288 * 4_097
    assert llama.kv_bytes == 4_098 * 524_288
    assert kvsim.count("llama-2-70b-hf", prompt=1, dtype="float16").kv_bytes == 327_680
    assert kvsim.count("deepseek-v3", prompt=1, dtype="bfloat16").kv_bytes == 70_272


def test_huge_counts_are_exact():
    c = kvsim.count("llama-2-7b-hf", prompt=10**12, new=1, dtype="float16")
    assert c.kv_bytes == 10**12 * 524_288
    assert c.flops == 2 * sum(step_macs(c.config, 10**12, 10**12).values())
    far = kvsim.count("llama-2-7b-hf", prompt=1, new=10**12)
    assert far.step(10**12).flops == 13_214_154_752 + 524_288 * 10**12


def test_windows_make_pieces():
    """Mistral's window caps what a step reads: one form below it, one above."""
    counted = kvsim.count("mistral-7b-v0.1", prompt=1, new=10_000)
    forms = {str(p.value["layers.0.scores"].macs) for p in counted.rest if p.lo < p.hi}
    assert forms == {"4096*t + 4096", str(4096 * 4096)}
    assert counted.step(9_000).by("kind")["scores"].macs == 32 * 32 * 128 * 4096


def test_latent_forms():
    small = {form: kvsim.count("deepseek-v3", prompt=1, new=2, latent=form) for form in
             ("reexpanded", "absorbed", "cached_expanded")}  # fmt: skip
    assert small["absorbed"].kv_bytes == small["reexpanded"].kv_bytes < small["cached_expanded"].kv_bytes
    assert small["reexpanded"].by("kind")["expand"].macs == 3 * small["reexpanded"].step(1).by("kind")["expand"].macs
    assert "absorb_query" in small["absorbed"].by("kind")
    with pytest.raises(UsageError, match="no latent attention"):
        kvsim.count("gpt2", prompt=1, latent="absorbed")


def test_a_context_beyond_the_models_is_counted():
    assert kvsim.count("gpt2", prompt=5_000, new=2).step(2).seen == 5_000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "llama-3.1-405B"}, "near names are llama-3.1-405b"),
        ({"model": ""}, "no model ''"),
        ({"model": "x" * 10_000}, "no model"),
        ({"model": "a\0b"}, "no model"),
        ({"prompt": 0}, "prompt must be a whole number of at least 1, got 0"),
        ({"prompt": -5}, "got -5"),
        ({"prompt": 2.5}, "got 2.5"),
        ({"prompt": True}, "got True"),
        ({"new": 0}, "new must be a whole number"),
        ({"cache": "static:9"}, "holds 9 tokens, asked for 12"),
        ({"cache": "abacus"}, "unknown cache"),
        ({"dtype": "int8"}, "unknown dtype 'int8': the backend meta computes in"),
        ({"source": 5}, "has no encoder"),
        ({"model": "t5-small"}, "reads a source"),
        ({"model": "t5-small", "source": 0}, "source must be a whole number"),
        ({"latent": "folded"}, "unknown latent"),
        ({"prompt": 10**19}, "must be at most 1000000000000000000"),
    ],
)
def test_bad_input(wrong, said):
    options = {"model": "gpt2", "prompt": 10, "new": 3, **wrong}
    with pytest.raises(UsageError, match=said):
        kvsim.count(options.pop("model"), **options)
    counted = kvsim.count("gpt2", prompt=10, new=3)
    with pytest.raises(UsageError, match="there is no step 4: this count has steps 1 to 3"):
        counted.step(4)
    for wrong_step in (1.5, "1", None):
        with pytest.raises(UsageError, match="number must be a whole number"):
            counted.step(wrong_step)
    with pytest.raises(UsageError, match="use site, layer or kind"):
        counted.by(["site"])


def test_folders_files_and_configs(tmp_path):
    facts = read_catalogue()["gpt2"]["config"]
    (tmp_path / "config.json").write_text(json.dumps(facts))
    wanted = kvsim.count("gpt2", prompt=7).flops
    for model in (tmp_path, str(tmp_path), tmp_path / "config.json", find_config("gpt2")[1]):
        assert kvsim.count(model, prompt=7).flops == wanted
    assert kvsim.count("demo", prompt=7).flops > 0
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FileError):
        kvsim.count(tmp_path, prompt=7)


def test_counting_needs_no_numpy():
    code = "import sys, kvsim; kvsim.count('llama-3.1-405b', prompt=9).by('site'); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_add_is_by_field():
    assert kvsim.count("gpt2", prompt=3).by("layer")["head"] == Totals(1, 3 * 768 * 50257, 3 * 768 * 50257)


# The catalogue


@pytest.mark.parametrize("name", read_catalogue())
def test_every_entry_has_its_source_and_can_be_counted(name):
    entry = read_catalogue()[name]
    assert entry["source"].startswith("https://")
    assert set(entry) <= {"source", "config", "note"}
    assert name == name.lower()
    assert "/" not in name
    config = find_config(name)[1]
    source = {} if config.encoder is None else {"source": 10}
    assert kvsim.count(name, prompt=3, new=2, **source).flops > 0


def test_every_family_is_there():
    assert {entry["config"]["model_type"] for entry in read_catalogue().values()} == set(FAMILIES)
