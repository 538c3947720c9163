"""Every policy on every kind of model: it works and its bytes add up, or it is refused with a reason."""

import numpy as np
import pytest

import kvsim
from kvsim.caches.specs import POLICIES, parse_spec
from kvsim.config import BY_LENGTH
from kvsim.doctor.against_numpy import IDS, make, source_of
from kvsim.errors import UsageError
from tests.arrays.runs import FIRST_OF_FAMILY, ZOO
from tests.marks import case
from tests.models import PRIMES

SPECS = (
    "none", "dynamic", "static:40", "paged:4", "window:5", "sinks:2+3", "int8:residual=2,group=2",
    "int4:residual=2,head", "fp8:residual=2,head", "h2o:6", "snapkv:6", "knorm:6",
    "offload:dynamic", "offload:int8:residual=2,head",
)  # fmt: skip
REFUSED = {  # with their reasons
    "sinks": "learned",
    "h2o": "relative position biases",
    "snapkv": "relative position biases",
    "knorm": "relative position biases|normalised latents",
    "int8": "shares scales",
    "int4": "packs two elements of a head into a byte",
}


def test_every_policy_is_here():
    assert {parse_spec(spec).name for spec in SPECS} == set(POLICIES)
    for spec in SPECS:
        assert str(parse_spec(str(parse_spec(spec)))) == str(parse_spec(spec))


@pytest.mark.parametrize("spec", SPECS)
def test_repr_is_one_line(spec):
    if spec.startswith("fp8"):
        pytest.importorskip("ml_dtypes")
    model = make(PRIMES, "numpy", "float32")
    cache = model.new_cache(spec)
    model([1, 2, 3], cache)
    seen = 0 if spec == "none" else 3
    sizes = "2 layers of 3 heads (10 + 10), float32 on numpy"
    assert repr(cache) == (
        f"<kvsim.Cache {cache.spec}: {PRIMES.family}, {sizes}; {seen} tokens, {cache.allocated_bytes} bytes>"
    )
    assert len(repr(cache)) <= 200


def test_no_spec_makes_a_repr_long():
    """Policies that contain another one are not nested, so every part of a repr is bounded."""
    with pytest.raises(UsageError, match="cannot be contained itself"):
        make(PRIMES, "numpy", "float32").new_cache("offload:" * 40 + "int8:residual=2,group=2,head")


# Every model under these; under the others, which share their code with one of these, the first model of each family.
# The other models take turns: each is tried under half of the policies, and under the rest with the extra dev.
FOR_ALL = ("none", "dynamic", "paged:4", "window:5", "sinks:2+3", "int8:residual=2,group=2", "h2o:6", "offload:dynamic")
PAIRS = [
    case(name, spec, id=f"{name}-{spec}", dev=name not in FIRST_OF_FAMILY and (i + FOR_ALL.index(spec)) % 2 == 1)
    for i, name in enumerate(ZOO) for spec in SPECS if spec in FOR_ALL or name in FIRST_OF_FAMILY
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec"), PAIRS)
def test_a_model_and_a_policy(name, spec, tmp_path):
    config = ZOO[name]
    model, source = make(config, "numpy", "float32"), source_of(config)
    if spec.startswith("fp8"):
        pytest.importorskip("ml_dtypes")
    try:
        cache = model.new_cache(spec)
    except UsageError as error:
        words = REFUSED[parse_spec(spec).name]
        if not any(word in str(error) for word in words.split("|")):
            raise
        return
    whole = model(IDS, **source)
    first = model(IDS[:7], cache, **source)
    by_length = any(kind.rope is not None and kind.rope.kind in BY_LENGTH for kind in config.layers)
    allowed = 1e-5 if cache.lossless and not by_length else 3.0
    assert np.abs(first - whole[:7]).max() <= allowed * np.abs(whole).max()
    for i in IDS[7:]:
        logits = model([i], cache, **(source if spec == "none" else {}))
    assert logits.shape == (1, config.vocab_size)
    assert np.isfinite(logits).all()
    own = sum(layer.allocated_bytes for layer in cache.layers), sum(layer.logical_bytes for layer in cache.layers)
    assert own[0] == own[1] + sum(cache.wasted)
    assert cache.metadata_bytes >= 0
    if spec == "none":
        return
    branch = cache.fork()
    assert (branch.seen, branch.ids) == (12, cache.ids)
    assert branch.logical_bytes == cache.logical_bytes
    assert branch.metadata_bytes == cache.metadata_bytes
    if config.audio is None:
        if spec.startswith("fp8"):
            return  # safetensors' NumPy side has no such type
        model.save_cache(cache, tmp_path / "cache")
        again = model.load_cache(tmp_path / "cache", spec)
        assert np.array_equal(model([9, 10], again), model([9, 10], cache.fork()))
    wanted = model([9, 10], cache)
    assert np.array_equal(model([9, 10], branch), wanted)
    cache.clear()
    assert (cache.seen, cache.logical_bytes) == (0, 0)
    assert np.array_equal(model(IDS[:7], cache, **source), first)


@pytest.mark.parametrize("backend", ["numpy", "exact"])
@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("fp8")])
def test_a_batch_is_each_sequence_by_itself(spec, backend):
    """Prompts of different lengths under every policy: equal ids; logits equal to rounding, on `exact` to the bit."""
    model = make(PRIMES, backend, "float64")
    prompts = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
    runs = kvsim.generate(model, prompts, 6, cache=spec, keep_logits=True)
    for prompt, run in zip(prompts, runs, strict=True):
        alone = kvsim.generate(model, prompt, 6, cache=spec, keep_logits=True)
        assert run.ids == alone.ids
        for one, other in zip(run.steps, alone.steps, strict=True):
            if backend == "exact":
                assert np.array_equal(one.logits, other.logits)
            else:
                assert np.abs(one.logits - other.logits).max() <= 1e-12 * np.abs(other.logits).max()
    products = [event for event in runs[0].steps[1].events if event.site == "layers.0.query"]
    assert [event.m for event in products] == [sum(len(run.steps[1].fed) if spec != "none" else len(prompt) + 1
                                                   for run, prompt in zip(runs, prompts, strict=True))]  # fmt: skip
