"""Wrong values for every public parameter: refused at the door with one line that says what to do, or an answer.

NumPy's scalars count as numbers; a bool, text, a float for a whole number and a list of lists for ids do not.
"""

# ruff: noqa: PLW0108 (models are made when a test runs, not when the file is imported)

import json
from functools import cache

import numpy as np
import pytest

import kvsim
from kvsim import testing
from kvsim.caches.cache import select
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.plans.planning import plan
from kvsim.errors import UsageError, shortened
from kvsim.generation.sampling import Sampler
from kvsim.loading.config_file import make_config
from kvsim.loading.facts import Facts
from kvsim.loading.small_models import FILE
from kvsim.testing.tolerances import measure_tolerance
from tests.models import demo, make_model

TWO, BITS = np.array([1, 2]), np.array([True, False])
THINGS = (object(), {"a": 1}, b"ab", TWO, BITS, 1j)
PROMPT = (None, 3, 1.5, [[]], [1, [2]], [1.5], [None], [True], [-1], [10**30], {1, 2}, {1: 2}, b"ab", np.array([1.0]),
          np.array(3), BITS, object())  # fmt: skip
IDS = ("text", *PROMPT, [[1]], ["a"], np.array([[1]]), [TWO])
SOURCE = ("text", 3, 1.5, [[1]], [1.5], [True], [-1], {1, 2}, BITS, object())
STATES = (3, "text", [[1.5]], TWO, np.ones((0, 64)), object())
WHOLE = ("3", "", 1.5, float("nan"), True, [], [1], -1, np.float32(2), np.bool_(True), *THINGS)
NUMBER = ("1", True, [], [1.5], 10**400, np.bool_(True), np.array([1.5, 2.5]), *THINGS)
FLAG = (None, 0, 1, "no", [], 1.5, *THINGS)
FUNCTION = (3, "text", [], *THINGS)
PLACES = (None, 3, "probs", "layers.9.probs", "layer.*", [], *THINGS)
LISTS = (None, 3, True, "text", {1, 2}, np.array(3), object(), {"a": 1})
PATHS = (None, 3, True, [], *THINGS)


@cache
def small(name):
    """A small model of a family, with random weights."""
    return make_model(make_config(Facts(FILE, json.loads(FILE.read_text("utf-8"))[name])), "float32")


@cache
def features():
    return np.ones((small("whisper").config.encoder.audio.n_mels, 6))


@cache
def weights():
    return testing.weights(layers=1)


@cache
def cost():
    return kvsim.cost("llama-2-7b-hf", prompt=8, new=2)


def names():
    """What is no name of anything; among it a cache, a model and a config."""
    return (3, True, [], ["a"], "nothing", "", demo().new_cache(), demo(), demo().config, *THINGS)


def filled():
    """A cache that has seen three tokens."""
    made = demo().new_cache()
    demo()([1, 2, 3], made)
    return made


def load(**options):
    return kvsim.load("demo", **options)


def ask(**options):
    return kvsim.generate(demo(), "中华", **{"max_new_tokens": 2, **options})


def trace(**options):
    return kvsim.trace("中", **{"model": demo(), "max_new_tokens": 1, **options})


def compare(**options):
    return kvsim.compare("中", **{"model": demo(), "caches": "int8", "max_new_tokens": 1, **options})


def count(**options):
    return kvsim.count("llama-2-7b-hf", **{"prompt": 8, "new": 2, **options})


def fits(**options):
    return plan("llama-2-7b-hf", "a100-80gb", **{"context": 8, **options})


def memory(**options):
    return measure_memory("llama-2-7b-hf", **{"contexts": [8], **options})


def talk():
    made = kvsim.Conversation(demo())
    made.turns = [None]  # it has one turn: what is refused never looks at it
    return made


def reuse(ids):
    pool = demo().new_pool("paged:16", blocks=8)
    return pool.reuse(pool.new_cache(), ids)


def model_of(**options):
    return kvsim.Model(**{"config": demo().config, "weights": demo().weights, **options})


def attention(**options):
    x = np.ones((1, 2, 3, 4))
    return testing.attention(**{"q": x, "k": x, "v": x, **options})


def unused(*args):
    raise AssertionError("the code under test is not called where an argument is refused")


def policy(**options):
    given = {"make": unused, "step": unused, "reference": weights(), "policy": "dynamic"}
    return testing.assert_policy(**(given | options))


def close_to(**options):
    given = {"make": unused, "step": unused, "reference": weights(), "max_logit_error": 0.1}
    return testing.assert_close_to(**(given | options))


def costs(**options):
    given = {"make": unused, "step": unused, "feed": [2, 1], "reference": weights()}
    return testing.assert_cost(**(given | options))


def rows(**options):
    given = {"make": unused, "step": unused, "rows": unused, "reference": weights()}
    return testing.assert_cache_rows(**(given | options))


def quantiser(**options):
    return testing.assert_quantiser(**({"quantise": unused, "dequantise": unused} | options))


def of(call, name, values):
    """A row of the table: `call` with the keyword `name`, and values that it refuses."""
    return pytest.param(lambda value: call(**{name: value}), values, id=f"{call.__name__}-{name}")


def rows_of(call, **values):
    return [of(call, name, wrong) for name, wrong in values.items()]


TABLE = [
    pytest.param(kvsim.load, PATHS, id="load-model"),
    *rows_of(load, backend=names, device=(3, [], "cuda:9", *THINGS), dtype=names, latent=names, attention=names),
    *rows_of(ask, max_new_tokens=(*WHOLE, None, 0), cache=names, feed=names, stop=(3.5, True, [True], [1.5], -1,
             [10**9], "", b"ab", [[1]], [TWO], np.array(1.5), object()), keep_logits=FLAG, count=FLAG, logits=names,
             temperature=(None, -1, float("nan"), float("inf"), *NUMBER), top_k=(0, *WHOLE), seed=(None, *WHOLE),
             top_p=(0, 2, *NUMBER), beams=(None, 0, 10**9, *WHOLE), draft=("ngram:0", 3, [], *THINGS),
             draft_tokens=(None, 0, *WHOLE), at_once=(0, *WHOLE)),
    pytest.param(lambda value: kvsim.generate(value, "中", 1), (None, "demo", 3, [], *THINGS), id="generate-model"),
    pytest.param(lambda value: kvsim.generate(demo(), value, 1), ("", *PROMPT), id="generate-prompt"),
    pytest.param(lambda value: kvsim.generate(small("whisper"), value, 1), (None, 3, "text", [], [1], [[1.5]], TWO,
                 np.array([["a"]]), object()), id="generate-features"),
    *rows_of(trace, model=PATHS, max_new_tokens=(None, 0, *WHOLE), feed=names, cache=names, progress=FUNCTION,
             temperature=(None, *NUMBER), seed=(None, *WHOLE)),
    pytest.param(lambda value: kvsim.trace(value, demo()), IDS[1:], id="trace-text"),
    *rows_of(compare, model=PATHS, max_new_tokens=(None, 0, *WHOLE), feed=names, progress=FUNCTION,
             caches=LISTS[1:3]),
    *rows_of(kvsim.Conversation, cache=names, separator=(None, 3, [], *THINGS), sampler=(3, "text", [], Sampler, TWO)),
    pytest.param(lambda value: kvsim.Conversation(demo()).say(value), IDS[1:], id="say-text"),
    pytest.param(lambda value: kvsim.Conversation(demo()).say("中", value), (None, 0, *WHOLE), id="say-new"),
    pytest.param(lambda value: talk().edit(value, "中"), (None, 0, 2, *WHOLE), id="edit-number"),
    *rows_of(count, prompt=(None, 0, *WHOLE), new=(None, 0, *WHOLE), cache=names, dtype=names, latent=names,
             source=WHOLE),
    pytest.param(lambda value: kvsim.count(value, prompt=8), PATHS, id="count-model"),
    pytest.param(lambda value: cost().count.step(value), (None, 0, 3, *WHOLE), id="count-step"),
    pytest.param(lambda value: cost().count.over(value, 2), (None, 0, *WHOLE), id="count-over"),
    pytest.param(lambda value: cost().count.by(value), names, id="count-by"),
    pytest.param(lambda value: cost().ratio(value), names, id="cost-ratio"),
    pytest.param(lambda value: cost().cached.total.flops_by(value, "causal"), names, id="flops-by"),
    *rows_of(fits, context=(None, 0, *WHOLE), devices=(None, 0, *WHOLE), dtype=names, cache_dtype=names,
             utilization=(None, 0, 2, *NUMBER[1:])),
    pytest.param(lambda value: plan("llama-2-7b-hf", value, 8), names, id="plan-device"),
    *rows_of(memory, contexts=(*LISTS, [0], [1.5], [[1]], [True]), batch=(None, 0, *WHOLE), block=(None, 0, *WHOLE),
             dtype=names, cache_dtype=names),
    pytest.param(lambda value: measure_tolerance(value, 8), names, id="tolerance-dtype"),
    pytest.param(lambda value: measure_tolerance("float16", 8, progress=value), FUNCTION, id="tolerance-progress"),
    *rows_of(model_of, config=(None, 3, "demo", *THINGS), tokenizer=(3, "text", [], *THINGS), path=(3, [], *THINGS),
             name=(None, 3, [], *THINGS), attention=names, dtype=names, backend=names),
    pytest.param(lambda value: demo().new_cache(value), (None, names), id="new_cache"),
    pytest.param(lambda value: demo().new_pool(value), (None, "dynamic", names), id="new_pool"),
    pytest.param(lambda value: demo().new_pool(blocks=value), (0, *WHOLE), id="new_pool-blocks"),
    pytest.param(lambda value: demo().save_cache(filled(), value), PATHS, id="save_cache-path"),
    pytest.param(lambda value: demo().save_cache(value, "nowhere"), (3, "dynamic", [], *THINGS), id="save_cache"),
    pytest.param(lambda value: demo().load_cache(value), PATHS, id="load_cache-path"),
    pytest.param(lambda value: demo().watch(value), PLACES, id="watch"),
    pytest.param(lambda value: demo().watch("final", value), PLACES, id="watch-second"),
    pytest.param(lambda value: demo()(value), IDS, id="model-ids"),
    pytest.param(lambda value: demo()([1], value), (3, "dynamic", [], *THINGS), id="model-cache"),
    pytest.param(lambda value: demo()([1], logits=value), (None, names), id="model-logits"),
    pytest.param(lambda value: demo().check_ids(value), IDS, id="check_ids"),
    pytest.param(lambda value: demo().batch(value), (*LISTS, [1], [[1, 2]], [(1, 2, 3)], ["ab"], [([1], "dynamic")]),
                 id="batch"),
    pytest.param(lambda value: demo().batch([(value, None)]), IDS, id="batch-ids"),
    pytest.param(lambda value: small("t5")([1], encoder_ids=value), SOURCE, id="source-ids"),
    pytest.param(lambda value: small("t5").encode(value), IDS, id="encode-ids"),
    pytest.param(lambda value: small("whisper").encode(features=value), (3, "text", [], [[1.5]], TWO, BITS,
                 np.array([["a"]]), np.array([[1j]]), object()), id="encode-features"),
    pytest.param(lambda value: small("whisper")([1], encoder_features=value), STATES,
                 id="source-features"),
    pytest.param(lambda value: small("t5")([1], encoder_states=value), STATES,
                 id="source-states"),
    pytest.param(lambda value: demo().tokenizer.encode(value), (None, 3, [], ["a"], *THINGS), id="tokenizer-encode"),
    pytest.param(lambda value: demo().tokenizer.split(value), (None, 3, [], ["a"], *THINGS), id="tokenizer-split"),
    pytest.param(lambda value: demo().tokenizer.decode(value), IDS, id="tokenizer-decode"),
    pytest.param(lambda value: demo().tokenizer.piece(value), (None, "a", 1.5, True, -1, [1], *THINGS), id="piece"),
    pytest.param(lambda value: filled().crop(value), (None, 4, *WHOLE), id="crop"),
    pytest.param(lambda value: select([filled()], value), (*LISTS, [1], [1.5], [-1], [True], ["a"]), id="select-order"),
    pytest.param(lambda value: select(value, [0]), (*LISTS, ["a"], [None]), id="select-caches"),
    pytest.param(reuse, IDS, id="reuse"),
    pytest.param(lambda value: Sampler(value), (None, -1, *NUMBER), id="sampler-temperature"),
    *rows_of(testing.weights, dtype=names, seed=(None, *WHOLE), array=FUNCTION, layers=(None, 0, 10**9, *WHOLE),
             heads=(None, 0, 10**9, *WHOLE), d_head=(None, 0, 10**9, *WHOLE), vocab=(None, 1, 10**12, *WHOLE),
             window=(0, *WHOLE), rope=names, rope_theta=(None, 0, -1, float("nan"), *NUMBER)),
    pytest.param(lambda value: testing.ModelWeights(value, {}), (None, 3, {}), id="ModelWeights-config"),
    pytest.param(lambda value: testing.ModelWeights(weights().config, value), (None, 3, []), id="ModelWeights-arrays"),
    *rows_of(attention, q=(None, 3, [[1.5]], "text", TWO, np.ones((1, 2, 3)), np.ones((1, 2, 0, 4)), np.ones((1, 2, 3,
             4), "i4"), object()), k=(None, [[1.5]], TWO, np.ones((1, 2, 3, 4), "f4")), mask=(3, [True], np.array(True),
             np.ones(4, bool), np.ones((2, 2)), np.array(["a"] * 3), object()), past_key=(3, [], np.ones((1, 2, 3, 4))),
             causal=FLAG, scale=(float("nan"), *NUMBER), softcap=(None, -1, *NUMBER), left_window=WHOLE,
             right_window=WHOLE, qk_mode=(None, 4, *WHOLE), softmax_dtype=names, q_num_heads=(0, 3, *WHOLE),
             nonpad_kv_seqlen=(3, "text", [4], [-1], [1.5], [1, 1], *THINGS)),
    *rows_of(testing.cases, rope=(*LISTS, [], [1]), heads=(*LISTS, [], [0], [1.5]), window=(*LISTS, [], [0]),
             dtype=(*LISTS, [], ["int8"])),
    *rows_of(policy, make=(None, *FUNCTION), step=(None, *FUNCTION), reference=(None, 3, "demo", *THINGS),
             policy=(None, names), cases=(None, *WHOLE), seed=(None, *WHOLE), allowed=(-1, float("nan"), *NUMBER),
             dtype=names, layers=FUNCTION, seconds=(None, 0, -1, float("nan"), *NUMBER)),
    *rows_of(close_to, max_logit_error=(None, -1, float("inf"), *NUMBER), min_top1=(None, -1, 80, *NUMBER),
             seed=(None, *WHOLE), cases=(None, *WHOLE), policy=(None, names)),
    *rows_of(costs, feed=(*LISTS, [], [0], [1.5], [10**18], [[1]]), score_cells=WHOLE, projected_rows=WHOLE,
             report=FUNCTION, reference=(None, 3, {})),
    *rows_of(rows, layout=names, seed=(None, *WHOLE), allowed=(-1, *NUMBER), rows=(None, *FUNCTION)),
    *rows_of(quantiser, bits=(None, 1, 10**9, *WHOLE), group=(None, 0, 10**9, *WHOLE), axis=names, symmetric=FLAG,
             scale_dtype=names, seed=(None, *WHOLE), array=FUNCTION),
]  # fmt: skip


def spread(values):
    """The values, with those of functions among them in their places."""
    for value in values() if callable(values) and not isinstance(values, type) else values:
        yield from value() if value is names else [value]


@pytest.mark.parametrize(("call", "values"), TABLE)
def test_a_wrong_value_is_refused_in_one_line(call, values):
    for value in spread(values):
        try:
            answer = call(value)
        except UsageError as error:
            said = str(error)
            assert "\n" not in said, shortened(value)
            assert 15 < len(said) < 700, shortened(value)
        else:
            raise AssertionError(f"{shortened(value)} is accepted: {shortened(answer)}")


NUMPY = {"max_new_tokens": np.uint8(3), "temperature": np.float32(1.5), "top_k": np.int8(5), "top_p": np.float64(0.75),
         "seed": np.uint16(7), "at_once": np.int64(1), "beams": np.int32(1), "draft_tokens": np.int64(2),
         "keep_logits": np.True_, "count": np.bool_(True), "stop": np.int64(700)}  # fmt: skip


def test_numpy_scalars_are_options_like_pythons():
    plain = {name: value.item() for name, value in NUMPY.items()}
    given, wanted = ask(**NUMPY), ask(**plain)
    assert given.ids == wanted.ids
    assert all(type(i) is int for i in given.ids)
    assert given.ledger.macs == wanted.ledger.macs > 0
    assert given.steps[0].logits is not None
    assert ask(max_new_tokens=np.uint8(3), beams=np.int8(2)).ids == ask(max_new_tokens=3, beams=2).ids
    new = np.uint8(2)
    assert trace(max_new_tokens=new).to_json() == trace(max_new_tokens=2).to_json()
    assert compare(max_new_tokens=new).to_dict() == compare(max_new_tokens=2).to_dict()
    assert kvsim.Conversation(demo()).say("中", new).reply == kvsim.Conversation(demo()).say("中", 2).reply
    assert count(prompt=np.uint8(200), new=np.uint8(100)).macs == count(prompt=200, new=100).macs
    assert fits(context=np.int16(8), devices=np.uint8(2)) == fits(context=8, devices=2)
    assert memory(contexts=np.array([8]), batch=np.uint8(200)) == memory(contexts=[8], batch=200)
    assert Sampler(np.float32(0.5), np.int64(2), np.float16(0.5), np.uint8(3)) == Sampler(0.5, 2, 0.5, 3)
    assert given.ledger.score_cells(np.int64(0)) == wanted.ledger.score_cells(0)
    cache = filled()
    cache.crop(np.uint8(1))
    assert cache.seen == 1
    assert type(cache.seen) is int
    assert demo().new_pool(blocks=np.int32(4)).free == 4
    assert testing.weights(layers=np.int8(1), window=np.uint8(3), seed=np.int64(0)).config == testing.weights(
        layers=1, window=3
    ).config  # fmt: skip
    assert testing.cases(heads=np.array([4, 2]), kv_heads=[np.int8(2)]) == testing.cases(heads=[4, 2], kv_heads=[2])


def test_arrays_of_ids_are_prompts():
    one, two = kvsim.generate(demo(), [[1, 2], [3, 4]], 2)
    for prompts in ([np.array([1, 2]), np.array([3, 4], "u1")], np.array([[1, 2], [3, 4]]), ([1, 2], np.array([3, 4]))):
        assert [run.ids for run in kvsim.generate(demo(), prompts, 2)] == [one.ids, two.ids]
    for prompt in (np.array([1, 2]), (1, 2), iter([1, 2]), [np.int64(1), np.array(2)]):
        assert kvsim.generate(demo(), prompt, 2).ids == one.ids
    assert kvsim.generate(small("t5"), np.array([[1, 2]]), 1)[0].ids == kvsim.generate(small("t5"), [1, 2], 1).ids
    heard = kvsim.generate(small("whisper"), [features(), features()], 1)
    assert [run.ids for run in heard] == [kvsim.generate(small("whisper"), features(), 1).ids] * 2


def test_ids_come_back_as_ints():
    for ids in ([np.int64(1), 2], np.array([1, 2], "u1"), (1, 2), range(1, 3), iter([1, 2])):
        checked = demo().check_ids(ids)
        assert checked == [1, 2]
        assert all(type(i) is int for i in checked)
    given = [1, 2]
    assert demo().check_ids(given) is not given  # a run appends to its ids
    cache = small("t5").new_cache()
    small("t5")([1], cache, encoder_ids=np.array([1, 2, 3]))
    assert cache.source == (1, 2, 3)
    small("t5")([1], cache, encoder_ids=[np.int64(1), 2, 3])  # the same source again


def test_states_of_another_dtype_are_converted():
    """A source in float64 does not make a model of float32 compute, and answer, in float64."""
    states = small("t5").encode([1, 2, 3])
    wanted = small("t5")([1], encoder_states=states)
    given = small("t5")([1], encoder_states=states.astype("float64"))
    assert given.dtype == wanted.dtype == np.float32
    assert np.array_equal(given, wanted)


def test_what_has_no_short_repr_is_named():
    nest = []
    for _ in range(100_000):
        nest = [nest]
    assert shortened(nest) == "<list: nested too deeply>"
    assert shortened(10**5000) == "<int: too long>"
    assert "\n" not in shortened(np.ones((3, 4)))
    while nest:  # taken apart level by level
        nest = nest[0]
