"""Against transformers' results, recorded in tests/fixtures, for every model there: logits, caches, intermediate
arrays, FLOPs, greedy ids. `python tests/transformer/test_reference.py` prints the largest differences."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.transformer.rotary import depends_on_length

FOLDER = Path(__file__).parent.parent / "fixtures"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/expected.npz"))
# Largest difference allowed, relative to max|expected|. float32 is looser: transformers and kvsim round differently.
ALLOWED = {"float64": 2e-13, "float32": 1e-5}
PREFIX = {"float64": "f64", "float32": "f32"}
CASES = [(name, dtype, row) for name in NAMES for dtype in ALLOWED for row in (0, 1)]


@cache
def load(name, dtype, latent=None):
    return kvsim.load(FOLDER / name, dtype=dtype, latent=latent)


class Case:
    """One sequence of one model in one dtype, and its recorded results."""

    def __init__(self, name, dtype, row, latent=None):
        self.name, self.dtype, self.row = name, dtype, row
        self.model = load(name, dtype, latent)
        self.expected = np.load(FOLDER / name / "expected.npz", allow_pickle=False)
        self.seq2seq = self.model.config.encoder is not None
        key = "decoder_input_ids" if self.seq2seq else "input_ids"
        self.ids = self.expected[f"inputs/{key}"][row].tolist()
        self.source = {}
        if self.seq2seq:
            self.source = {"encoder_ids": self.expected["inputs/encoder_input_ids"][row].tolist()}

    def at(self, key):
        return self.expected[f"{PREFIX[self.dtype]}/{key}"][self.row]

    def full(self):
        return self.model(self.ids, **self.source)

    def split(self, sizes, spec="dynamic"):
        cache, logits, start = self.model.new_cache(spec), [], 0
        for size in sizes:
            logits.append(self.model(self.ids[start : start + size], cache, **(self.source if start == 0 else {})))
            start += size
        return np.concatenate(logits), cache

    @property
    def by_length(self):
        return any(kind.rope and depends_on_length(kind.rope) for kind in self.model.config.layers)


def relative_error(got, expected, scale=None):
    """max|got - expected| / max|expected|, or / `scale`."""
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / (np.abs(expected).max() if scale is None else scale))


@pytest.fixture(params=CASES, ids=lambda c: "-".join(map(str, c)))
def case(request):
    return Case(*request.param)


def test_logits_and_cache(case):
    allowed = ALLOWED[case.dtype]
    assert relative_error(case.full(), case.at("logits_full")) <= allowed
    logits, cached = case.split([7, 1, 1, 1, 1, 1])
    assert relative_error(logits[:7], case.at("logits_prefill")) <= allowed
    assert relative_error(logits[7:], case.at("logits_decode")) <= allowed
    assert cached.seen == 12
    for i, layer in enumerate(cached.layers):
        assert relative_error(layer.keys, case.at(f"cache/{i}/key")) <= allowed
        assert relative_error(layer.values, case.at(f"cache/{i}/value")) <= allowed
    for i, layer in enumerate(cached.cross):
        assert relative_error(layer.keys, case.at(f"cross_cache/{i}/key")) <= allowed
        assert relative_error(layer.values, case.at(f"cross_cache/{i}/value")) <= allowed


@settings(max_examples=25)
@given(name=st.sampled_from(NAMES), sizes=st.lists(st.integers(1, 5), min_size=3, max_size=12), data=st.data())
def test_any_split(name, sizes, data):
    """Any composition of 12, under either cache; models whose positions depend on the length are left out."""
    case = Case(name, "float64", data.draw(st.integers(0, 1)))
    if case.by_length:
        return
    sizes = [size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= 12]
    sizes += [12 - sum(sizes)] * (sum(sizes) < 12)
    logits, _ = case.split(sizes, data.draw(st.sampled_from(["dynamic", "static:12"])))
    assert relative_error(logits, case.at("logits_full")) <= ALLOWED["float64"]


def test_intermediate_arrays(case):
    crossed = ("layers.*.cross_probs", "encoder.final") if case.seq2seq else ()
    with case.model.watch("layers.*.probs", "layers.*.hidden", "embedding", "final", *crossed) as seen:
        case.full()
    allowed, last = ALLOWED[case.dtype], case.model.config.n_layers
    places = {"probs": "attention"} | ({"cross_probs": "cross_attention"} if case.seq2seq else {})
    for i in range(last):
        for place, key in places.items():
            probs = seen[f"layers.{i}.{place}"]
            expected = case.expected[f"f64/{key}/{i}"][case.row]
            assert relative_error(probs.reshape(-1, *probs.shape[2:]), expected, 1.0) <= allowed
    hidden = [seen["embedding"], *(seen[f"layers.{i}.hidden"] for i in range(last - 1)), seen["final"]]
    for i, got in enumerate(hidden):
        assert relative_error(got, case.expected[f"f64/hidden/{i}"][case.row]) <= allowed
    if case.seq2seq:
        assert relative_error(seen["encoder.final"], case.expected["f64/encoder_output"][case.row]) <= allowed


def test_flops_are_those_of_torchs_counter(case):
    """FlopCounterMode counted a batch of both sequences: exactly twice the FLOPs of one."""
    model, flops = case.model, {}
    with model.count() as flops["full"]:
        case.full()
    states = {}
    if case.seq2seq:
        with model.count() as flops["encode"]:
            states = {"encoder_states": model.encode(case.source["encoder_ids"])}
    cache = model.new_cache("dynamic")
    with model.count() as flops["prefill"]:
        model(case.ids[:7], cache, **states)
    for phase, ledger in flops.items():
        assert 2 * ledger.flops == case.expected[f"flops/{phase}/total"]
    for token, expected in zip(case.ids[7:], case.expected["flops/decode_steps"], strict=True):
        with model.count() as step:
            model([token], cache)
        assert 2 * step.flops == expected


def products(ledger):
    """Sorted (b, m, k, n) of attention's products, which transformers never fuses with others."""
    kinds = ("scores", "context", "cross_scores", "cross_context")
    found = [(e.b, e.m, e.k, e.n) for e in ledger if e.kind in kinds]
    return sorted(found)


def test_attention_product_by_product(case):
    """Every batched product that torch counted, (b, m, k, n): b is 2 sequences · heads."""
    with case.model.count() as ledger:
        case.full()
    calls = case.expected["flops/full/calls"]
    batched = sorted((int(b) // 2, int(m), int(k), int(n)) for op, b, m, k, n in calls if b > 1)
    assert products(ledger) == batched


QKV_IN_ONE = {"bloom", "falcon_mqa", "gpt2", "gpt_neox", "phi3"}


def call_of(name, event):
    """(layer, kind) of the transformers product that contains this one: equal for parts that it fuses."""
    if event.kind in ("query", "key", "value") and name in QKV_IN_ONE:
        return event.layer, "qkv"
    if event.kind in ("gate", "up") and (name == "phi3" or ".experts." in event.site):
        return event.layer, "gate_up"
    return event.layer, event.kind


@pytest.mark.parametrize("name", NAMES)
def test_linear_product_by_product(name):
    """Every other product that torch counted, (m, k, n), with both sequences in one step."""
    cases = [Case(name, "float32", row) for row in (0, 1)]
    with cases[0].model.count() as ledger:
        if cases[0].seq2seq:
            cases[0].full()
        else:
            cases[0].model.batch([(case.ids, None) for case in cases])
    widths: Counter = Counter()
    heights: Counter = Counter()  # latents are expanded one sequence at a time
    for event in ledger:
        if event.kind == "expand":
            heights[event.layer, event.k, event.n] += event.m
        elif event.kind not in ("scores", "context", "cross_scores", "cross_context"):
            widths[(*call_of(name, event), event.m * (2 if cases[0].seq2seq else 1), event.k)] += event.n
    found = Counter((m, k, n) for (*_, m, k), n in widths.items())
    found += Counter((m, k, n) for (_, k, n), m in heights.items())
    wanted = Counter((int(m), int(k), int(n)) for _, b, m, k, n in cases[0].expected["flops/full/calls"] if b == 1)
    assert found == wanted


def test_greedy_ids(case):
    prompt = int(case.expected["greedy/prompt_len"])
    for spec in ("dynamic", "none", "static:64"):
        key = "ids_uncached" if spec == "none" and "greedy/ids_uncached" in case.expected else "ids"
        ids = case.expected[f"greedy/{key}"][case.row].tolist()
        start = case.source["encoder_ids"] if case.seq2seq else ids[:prompt]
        run = kvsim.generate(case.model, start, len(ids) - prompt, cache=spec)
        assert run.ids == ids
        assert run.text is None


def test_padded_rows_run_alone(case):
    """A left-padded row of the reference batch has the logits of its real tokens run alone, and so has a source
    whose end is masked. Models whose frequencies depend on the longest row are left out."""
    if case.by_length:
        return
    if case.seq2seq:
        real = case.expected["padded/encoder_attention_mask"][1].astype(bool)
        source = case.expected["inputs/encoder_input_ids"][1][real].tolist()
        ids = case.expected["inputs/decoder_input_ids"][1].tolist()
        expected = case.expected["padded/logits_f64"][1]
        assert relative_error(case.model(ids, encoder_ids=source), expected) <= ALLOWED[case.dtype]
        return
    real = case.expected["padded/attention_mask"][1].astype(bool)
    ids = case.expected["padded/input_ids"][1][real].tolist()
    assert relative_error(case.model(ids), case.expected["padded/logits_f64"][1][real]) <= ALLOWED[case.dtype]


@pytest.mark.parametrize("form", ["absorbed", "cached_expanded"])
def test_latent_forms_have_the_same_logits_and_different_ledgers(form):
    plain, other = Case("deepseek_v2", "float64", 0), Case("deepseek_v2", "float64", 0, form)
    logits, cache = other.split([7, 1, 1, 1, 1, 1])
    assert relative_error(logits, plain.at("logits_full")) <= ALLOWED["float64"]
    assert relative_error(other.full(), plain.at("logits_full")) <= ALLOWED["float64"]
    with plain.model.count() as ledger:
        plain.full()
    with other.model.count() as others:
        other.full()
    assert others.macs != ledger.macs or form == "cached_expanded"
    config = other.model.config
    shape = (1, 12, 12) if form == "absorbed" else (config.n_heads, 12, 12)
    assert cache.layers[0].keys.shape == shape


def test_length_dependent_positions_differ_between_cached_and_uncached():
    """A cached key keeps the frequencies of the length at which it was computed; the uncached run uses one set."""
    case = Case("llama_dynamic_ntk", "float64", 0)
    logits, _ = case.split([7, 1, 1, 1, 1, 1])
    assert relative_error(logits, case.full()) > 1e-3


def table():
    print(f"{'model':<22}{'dtype':<9}{'logits':>9}{'cached':>9}{'cache':>9}{'FLOPs':>7}{'greedy':>8}")
    for name in NAMES:
        for dtype in ALLOWED:
            worst, same = [0.0, 0.0, 0.0], [True, True]
            for row in (0, 1):
                case = Case(name, dtype, row)
                logits, cached = case.split([7, 1, 1, 1, 1, 1])
                decoded = np.concatenate([case.at("logits_prefill"), case.at("logits_decode")])
                caches = [
                    relative_error(getattr(layer, part + "s"), case.at(f"{kind}/{i}/{part}"))
                    for kind, layers in (("cache", cached.layers), ("cross_cache", cached.cross))
                    for i, layer in enumerate(layers)
                    for part in ("key", "value")
                ]
                found = (
                    relative_error(case.full(), case.at("logits_full")),
                    relative_error(logits, decoded),
                    max(caches),
                )
                worst = [max(pair) for pair in zip(worst, found, strict=True)]
                for i, check in enumerate((test_flops_are_those_of_torchs_counter, test_greedy_ids)):
                    try:
                        check(case)
                    except AssertionError:
                        same[i] = False
            cells = (
                "".join(f"{w:>9.0e}" for w in worst)
                + f"{'exact' if same[0] else 'NO':>7}{'same' if same[1] else 'NO':>8}"
            )
            print(f"{name:<22}{dtype:<9}{cells}")


if __name__ == "__main__":
    table()
