"""Models, caches, pools and records can be pickled and deep-copied, and a copy continues like the original."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.arrays import get_backend
from kvsim.caches.specs import list_examples
from kvsim.errors import FileError, KvsimError, UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.arrays.runs import ZOO
from tests.models import PRIMES

IDS = list(range(5, 19))
SMALL = ("window:4", "sinks:1+3", "int8:group=2,residual=2", "int4:group=2,residual=2,zero", "fp8:group=2,residual=2",
         "h2o:4", "snapkv:4", "knorm:4", "offload:int8:group=2,residual=2")  # fmt: skip
SPECS = sorted({*list_examples(), *SMALL})


def pickled(x):
    return pickle.loads(pickle.dumps(x))


def swapped(copied):
    """Copies a pair in reverse order: the order must not matter."""
    return lambda pair: copied(pair[::-1])[::-1]


COPIES = {"pickle": pickled, "deepcopy": copy.deepcopy}
PAIRS = COPIES | {f"{name} swapped": swapped(copied) for name, copied in COPIES.items()}


@pytest.fixture(scope="module", params=["numpy", "exact", "torch"])
def model(request):
    if request.param == "torch":
        pytest.importorskip("torch").set_num_threads(1)  # more threads than processors take seconds per step
    config = replace(PRIMES, max_context=512)  # for every policy's example
    return Model(config, random_weights(config), backend=request.param)


def make_cache(model, spec):
    """A cache of that policy; skips the test where the package for its dtype is not installed."""
    if spec.startswith("fp8") and model.backend != "torch":
        pytest.importorskip("ml_dtypes")
    return model.new_cache(spec)


def host(model, x):
    return model.ops.backend.to_host(x)


def facts(cache):
    return (cache.spec, cache.seen, cache.ids, cache.logical_bytes, cache.allocated_bytes, cache.metadata_bytes)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copied_model_has_the_same_logits(model, copied):
    other = copied(model)
    assert other.ops is not model.ops
    assert np.array_equal(host(other, other(IDS)), host(model, model(IDS)))
    assert (repr(other), other.config, other.fingerprint()) == (repr(model), model.config, model.fingerprint())
    with model.count() as ledger, other.count() as own:
        other(IDS)
    assert (ledger.macs, len(own) > 0) == (0, True)  # a copy counts its own products
    with pytest.raises(UsageError, match="another model"):
        other(IDS, model.new_cache())


def test_a_tokenizer_is_copied_with_its_model():
    model = kvsim.load("demo")
    for copied in COPIES.values():
        other = copied(model)
        assert other.tokenizer.encode("中华") == model.tokenizer.encode("中华")
        assert (other.name, other.path, other.attention) == (model.name, model.path, model.attention)


@pytest.mark.parametrize("name", ZOO)
def test_every_family(name):
    config = ZOO[name]
    model = Model(config, random_weights(config), dtype="float64", backend="exact")
    source = {}
    if config.encoder is not None:
        audio = config.encoder.audio
        features = None if audio is None else np.random.default_rng(0).normal(size=(audio.n_mels, 8))
        source = {"encoder_ids": [1, 2, 3]} if audio is None else {"encoder_features": features}
    cache = model.new_cache()
    model([1, 2, 3], cache, **source)
    wanted = [(copied, copied((model, cache))) for copied in COPIES.values()]
    step = model([4], cache)
    for _, (other, other_cache) in wanted:
        assert other.config == config
        assert np.array_equal(other([4], other_cache), step)


def test_a_model_on_meta():
    model = Model(PRIMES, random_weights(PRIMES), backend="meta")
    for copied in COPIES.values():
        assert copied(model)(IDS).shape == (len(IDS), PRIMES.vocab_size)


@pytest.mark.parametrize("copied", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("spec", SPECS)
def test_a_copied_model_continues_with_its_cache(model, spec, copied):
    cache = make_cache(model, spec)
    model(IDS[:9], cache)
    other, other_cache = copied((model, cache))
    assert facts(other_cache) == facts(cache)
    for ids in (IDS[9:11], IDS[11:12], IDS[12:13]):
        wanted = host(model, model(ids, cache))
        assert np.array_equal(host(other, other(ids, other_cache)), wanted)
    assert facts(other_cache) == facts(cache)
    with pytest.raises(UsageError, match="another model"):
        model([5], other_cache)


@pytest.mark.parametrize("spec", SPECS)
def test_a_deep_copied_cache_works_with_the_same_model(model, spec):
    cache = make_cache(model, spec)
    model(IDS[:9], cache)
    once = copy.deepcopy(cache)
    twice = copy.deepcopy(once)
    (other, theirs), (third, loaded) = copy.deepcopy((model, once)), pickled((model, once))
    before = host(model, model(IDS[9:11], once))
    assert [c.seen for c in (cache, once, twice)] == ([9, 11, 9] if cache.keeps else [0, 0, 0])
    for runs, its_cache in ((model, cache), (model, twice), (other, theirs), (third, loaded)):
        assert np.array_equal(host(model, runs(IDS[9:11], its_cache)), before)
    fork = once.fork()
    assert np.array_equal(host(model, model(IDS[11:12], fork)), host(model, model(IDS[11:12], cache)))


def test_a_cache_pickled_alone_belongs_to_no_model(model):
    cache = model.new_cache()
    model(IDS, cache)
    loaded = pickled(cache)
    assert facts(loaded) == facts(cache)
    with pytest.raises(UsageError, match="another model"):
        model([5], loaded)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_pool_is_copied_with_the_caches_copied_beside_it(copied):
    model = Model(PRIMES, random_weights(PRIMES), backend="exact")
    pool = model.new_pool("paged:2", blocks=12)
    first, second, third = pool.new_cache(), pool.new_cache(), pool.new_cache()
    model(IDS[:6], first)
    assert pool.reuse(second, IDS[:7]) == 6
    model(IDS[6:8], second)
    model(IDS[::-1][:6], third)
    assert (pool.held, pool.free) == (7, 5)
    other, theirs, one, two = copied((model, pool, first, second))
    assert (theirs.held, theirs.free, theirs.kept) == (
        4,
        8,
        3,
    )  # the third's blocks can still be reused by their contents
    assert theirs.logical_bytes == 8 * first.logical_bytes // 6
    assert [one.table.blocks, two.table.blocks] == [first.table.blocks, second.table.blocks]
    assert np.array_equal(other(IDS[8:11], two), model(IDS[8:11], second))
    assert np.array_equal(other(IDS[6:7], one), model(IDS[6:7], first))
    fourth = theirs.new_cache()
    assert theirs.reuse(fourth, IDS[::-1][:6]) == 4
    one.clear(), two.clear(), fourth.clear()
    del two, one, fourth
    assert (theirs.held, theirs.free) == (0, 12)
    assert pool.held == 10
    alone = copied(pool)
    assert (alone.held, alone.free) == (0, 12)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_records(copied):
    """Runs, traces, ledgers, and watched arrays."""
    model = kvsim.load("demo", backend="exact")
    run = kvsim.generate(model, "中华", max_new_tokens=3, keep_logits=True)
    other = copied(run)
    assert (other.ids, other.text, other.ledger.events) == (run.ids, run.text, run.ledger.events)
    assert other.cache.ids == run.cache.ids
    assert [step.events for step in other.steps] == [step.events for step in run.steps]
    trace = kvsim.trace("中华人民", model=model)
    assert copied(trace) == trace
    with model.watch("final") as seen, model.count() as ledger:
        model(IDS)
        while_open = copied(ledger), copied(seen)
        model(IDS)
    assert len(ledger) == 2 * len(while_open[0])
    assert copied(ledger).events == ledger.events
    assert [len(found.history["final"]) for found in (while_open[1], copied(seen))] == [1, 2]
    assert np.array_equal(copied(seen)["final"], seen["final"])
    with model.count() as ledger:
        fresh = copied(model)
        fresh(IDS)
    assert len(ledger) == 0  # ledgers that a thread has open are not copied


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_conversations(copied):
    talk = kvsim.Conversation("demo", cache="int8:group=2,residual=2")
    talk.say("中华")
    talk.edit(1, "人民")
    other = copied(talk)
    assert other.turns[0].reply == talk.turns[0].reply
    assert str(other.turns[0].restart) == str(talk.turns[0].restart)
    assert other.say("中华").reply_ids == talk.say("中华").reply_ids
    assert other.ids == talk.ids


@pytest.mark.parametrize("copied", [*COPIES.values(), copy.copy], ids=[*COPIES, "copy"])
def test_errors_and_backends(copied):
    error = FileError("{path} holds {{}} in {n}", path="a", n=3)
    other = copied(error)
    assert (type(other), str(other), other.values) == (FileError, "a holds {} in 3", {"path": "a", "n": 3})
    assert isinstance(other, KvsimError)
    backend = get_backend("numpy")._replace(in_place=False)
    assert copied(backend)[:1] + copied(backend)[3:4] == backend[:1] + backend[3:4]
    assert not copied(backend).in_place


def test_a_modified_backend_cannot_be_pickled():
    plain = get_backend("numpy")
    for made in (plain._replace(xp=plain.xp.__class__()), plain._replace(opened=None), plain._replace(name="mine")):
        with pytest.raises(TypeError, match="not made by get_backend"):
            pickle.dumps(made)
        assert copy.deepcopy(made) is made
