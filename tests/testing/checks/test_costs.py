"""What decoders compute, counted in NumPy and in torch: a cache, a fake and none. Unknown counts are refused."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.independent.rounding import rounding
from kvsim.testing.subject.products import Operand, Tally, WeightRows
from tests.testing.strangers import numpy_decoders

CACHED = {"score_cells": 28, "projected_rows": 21}
FAKED = {"score_cells": 28, "projected_rows": 63}
UNCACHED = {"score_cells": 140, "projected_rows": 84}


def step(m, ids):
    return m.forward(ids)


def cost_of(make, weights, feed=(1,) * 7):
    """What is counted, and what the message says."""
    with pytest.raises(OracleError) as caught:
        testing.assert_cost(make, step, list(feed), reference=weights, score_cells=10**9, projected_rows=10**9)
    return caught.value.facts.get("cost"), str(caught.value)


@pytest.mark.parametrize(
    "cls",
    [numpy_decoders.NumpyDecoder, numpy_decoders.Preallocated, numpy_decoders.Einsum, numpy_decoders.Fused],
    ids=lambda c: c.__name__,
)
def test_numpy(cls):
    weights = testing.weights()
    testing.assert_cost(lambda: cls(weights), step, [1] * 7, reference=weights, **CACHED)
    cost, text = cost_of(lambda: cls(weights), weights)
    assert cost == CACHED
    assert "products of NumPy arrays" in text
    testing.assert_cost(lambda: cls(weights), step, [4, 1, 1, 1], reference=weights, score_cells=34, projected_rows=21)
    assert type(weights["lm_head.weight"]) is np.ndarray


def test_no_cache_in_numpy(monkeypatch):
    weights = testing.weights()
    for language, said in (("en", "this is no cache"), ("zh", "这不是缓存")):
        monkeypatch.setenv("KVSIM_LANG", language)
        cost, text = cost_of(lambda: numpy_decoders.Recomputes(weights), weights)
        assert cost == UNCACHED
        assert said in text


def test_projections_head_by_head():
    class Heads(numpy_decoders.NumpyDecoder):
        def linear(self, x, name):
            w, n = self.w[name], self.c.d_head
            return np.concatenate([x @ w[i : i + n].T for i in range(0, len(w), n)], axis=1)

    weights = testing.weights()
    assert cost_of(lambda: Heads(weights), weights)[0] == CACHED


class CopiesKeys(numpy_decoders.NumpyDecoder):
    """The products of the key projection cannot be recognised."""

    def linear(self, x, name):
        return np.array(x) @ np.array(self.w[name]).T if "k_proj" in name else super().linear(x, name)


class PlainDecode(numpy_decoders.NumpyDecoder):
    """Attention of single tokens in arrays that cannot be recognised."""

    def attend(self, q, k, v):
        return super().attend(*((q, k, v) if q.shape[1] > 1 else map(np.array, (q, k, v))))


class ByHand(numpy_decoders.NumpyDecoder):
    """Scores by elementwise products and a sum."""

    def attend(self, q, k, v):
        k, v = self.repeat(k), self.repeat(v)
        return self.join(numpy_decoders.softmax((q[:, :, None] * k[:, None]).sum(-1)) @ v)


@pytest.mark.parametrize(("cls", "feed", "asked", "said"), [
    (CopiesKeys, [1] * 7, "projected_rows", "key: 0 projected rows were seen"),
    (PlainDecode, [4, 1, 1], "score_cells", "384 numbers entered the output projection"),
    (ByHand, [1] * 7, "score_cells", "elementwise"),
])  # fmt: skip
def test_what_is_not_seen_in_numpy_is_no_zero(cls, feed, asked, said):
    weights = testing.weights()
    with pytest.raises(OracleError, match="the cost cannot be determined") as caught:
        testing.assert_cost(lambda: cls(weights), step, feed, reference=weights, **{asked: 1})
    assert said in str(caught.value)


def test_what_cannot_be_counted_is_said():
    weights = testing.weights()
    copied = testing.ModelWeights(weights.config, {name: x.copy() for name, x in weights.items()})
    make = lambda: numpy_decoders.NumpyDecoder(copied)  # noqa: E731
    with pytest.raises(OracleError, match="no product of NumPy arrays or torch tensors was seen"):
        testing.assert_cost(make, step, [1, 1], reference=weights, score_cells=3)


def test_a_report():
    weights = testing.weights()
    make = lambda: numpy_decoders.NumpyDecoder(weights)  # noqa: E731
    testing.assert_cost(make, step, [1, 1], reference=None, score_cells=3, report=lambda m: {"score_cells": 3})
    with pytest.raises(OracleError, match=r"4, expected 3\n  counted from shapes by report="):
        testing.assert_cost(make, step, [1, 1], reference=None, score_cells=3, report=lambda m: {"score_cells": 4})
    with pytest.raises(OracleError, match="report does not give projected_rows"):
        testing.assert_cost(make, step, [1, 1], reference=None, projected_rows=6, report=lambda m: {"score_cells": 4})
    for nonsense in (None, {"score_cells": "3"}, {"score_cells": True}):
        with pytest.raises(OracleError, match="report gave"):
            testing.assert_cost(make, step, [1, 1], reference=None, score_cells=3, report=lambda m, x=nonsense: x)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_weights_are_found_by_value(dtype):
    weights = testing.weights()
    found, keep = WeightRows(weights), rounding(dtype)
    joined = np.concatenate([weights[f"model.layers.1.self_attn.{p}_proj.weight"] for p in "qkv"])
    assert found.find(keep(joined).T, dtype) == {"query": 32, "key": 16, "value": 16}
    assert found.find(keep(joined)[20:40].reshape(4, 5, 24), dtype) == {"query": 12, "key": 8}
    assert found.find(keep(rounding("float32")(joined)), dtype) == {"query": 32, "key": 16, "value": 16}
    assert found.find(keep(joined * 1.5), dtype) == {}
    assert found.find(np.concatenate([keep(joined), np.ones((1, 24))]), dtype) == {}
    assert found.find(np.zeros((0, 24)), dtype) == {}


def operand(shape, *kinds):
    return Operand(np.ones(shape), "float64", None if kinds == (None,) else frozenset(kinds))


@pytest.mark.parametrize(("a", "b", "kinds", "cells"), [
    (("query",), ("key",), {"scores"}, 6),
    (("query",), (None,), {"scores"}, 6),
    (("query", "key", "value"), ("query", "key", "value"), {"scores"}, 6),
    (("scores",), ("value",), {"context"}, 0),
    (("scores",), (None,), {"context"}, 0),
    ((), (), set(), 0),
])  # fmt: skip
def test_products_that_are_known(a, b, kinds, cells):
    tally = Tally(testing.weights())
    assert tally.add_product([operand((2, 8), *a), operand((3, 8), *b)], 6) == kinds
    assert (tally.cells, tally.unknown) == (cells, {})


@pytest.mark.parametrize(("a", "b"), [
    (("query",), ()), (("query",), ("query",)), (("key",), ("value",)), (("scores",), ("key",)), (("value",), ()),
    (("query", "key", "value"), (None,)), (("scores", "query"), ("key", "value")),
])  # fmt: skip
def test_products_that_are_not(a, b):
    tally = Tally(testing.weights())
    tally.add_product([operand((2, 8), *a), operand((3, 8), *b)], 6)
    assert "score_cells" in tally.unknown


@pytest.mark.parametrize(("scores", "value", "told"), [
    ((4, 3, 1), (4, 1, 8), True),  # one key
    ((2, 2, 3, 1), (2, 1, 1, 8), True),
    ((4, 3, 4, 1), (4, 1, 4, 8), False),  # four keys
    ((4, 3, 5, 1), (1, 1, 5, 8), False),
])  # fmt: skip
def test_weights_and_values_number_by_number(scores, value, told):
    tally = Tally(testing.weights())
    made = np.broadcast_shapes(scores, value)
    kinds = tally.add_elementwise([operand(value, "value"), operand(scores, "scores")], int(np.prod(made)))
    assert (kinds == {"context"}, "score_cells" not in tally.unknown) == (told, told)
    assert set(tally.counts()) == {"score_cells", "projected_rows"} - tally.unknown.keys()


torch_only = pytest.mark.dev


@torch_only
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["Plain", "Fused", "Modules", "ModulesFused", "Joined", "Written", "Einsum"])
def test_torch(name, dtype):
    import torch

    from tests.testing.strangers import torch_decoders

    cls = getattr(torch_decoders, name)
    mine = type(name, (cls,), {"dtype": getattr(torch, dtype)})
    weights = testing.weights(dtype=dtype)
    testing.assert_split_invariant(lambda: mine(weights), step, weights)
    testing.assert_cost(lambda: mine(weights), step, [1] * 7, reference=weights, **CACHED)
    testing.assert_cost(lambda: mine(weights), step, [4, 1, 1, 1], reference=weights, score_cells=34, projected_rows=21)
    cost, text = cost_of(lambda: torch_decoders.uncached(mine)(weights), weights)
    assert cost == UNCACHED
    assert "this is no cache" in text
    if name != "Joined":  # it projects queries, keys and values together
        assert cost_of(lambda: torch_decoders.faked(mine)(weights), weights)[0] == FAKED


@torch_only
def test_weights_that_were_rounded_or_loaded_before():
    """A model in float32 and bfloat16 of weights in float64, made once; make gives a fresh cache."""
    import torch

    from tests.testing.strangers import torch_decoders

    weights = testing.weights()
    for dtype in (torch.float32, torch.bfloat16):
        made = type("Mine", (torch_decoders.ModulesFused,), {"dtype": dtype})(weights)

        def make(made=made):
            made.rows, made.seen = [None] * made.c.layers, 0
            return made

        cost, text = cost_of(make, weights)
        assert cost == CACHED
        assert "FLOPs by torch's FlopCounterMode" in text


@torch_only
def test_what_torch_hides_is_no_zero():
    from tests.testing.strangers import torch_decoders

    weights = testing.weights()
    for cls, said in torch_decoders.UNATTRIBUTED.items():
        with pytest.raises(OracleError, match="the cost cannot be determined") as caught:
            testing.assert_cost(lambda cls=cls: cls(weights), step, [4, 1, 1], reference=weights, score_cells=1,
                                projected_rows=1)  # fmt: skip
        assert said in str(caught.value), cls


@torch_only
def test_the_two_counters_must_agree(monkeypatch):
    """If attention were an operation that the counter does not know, its FLOPs would be missing."""
    from kvsim.testing.subject import torch_products
    from tests.testing.strangers import torch_decoders

    weights = testing.weights()
    monkeypatch.setattr(torch_products, "CPU_ATTENTION", "relu")
    with pytest.raises(OracleError, match=r"FlopCounterMode counts \d+ FLOPs, of which 162736 belong"):
        testing.assert_cost(lambda: torch_decoders.Fused(weights), step, [1] * 7, reference=weights, score_cells=28)


@torch_only
def test_numpy_and_torch_in_one_decoder():
    import torch

    class Both(numpy_decoders.NumpyDecoder):
        def attend(self, q, k, v):
            q, k, v = (torch.from_numpy(np.asarray(x)) for x in (q, self.repeat(k), self.repeat(v)))
            w = self.w["model.layers.0.self_attn.q_proj.weight"]
            torch.from_numpy(np.asarray(w)) @ torch.ones(24, dtype=torch.float64)  # torch's part of the weights
            return self.join((q @ k.mT).softmax(-1).numpy() @ v.numpy())

    weights = testing.weights()
    with pytest.raises(OracleError, match="of NumPy arrays and of torch tensors"):
        testing.assert_cost(lambda: Both(weights), step, [1] * 7, reference=weights, score_cells=28)


@torch_only
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_llama(attention):
    import torch
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    weights = testing.weights()
    c = weights.config
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=c.vocab, hidden_size=c.d_model, intermediate_size=c.d_ff, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.d_head, rms_norm_eps=c.norm_eps,
        max_position_embeddings=c.context, attn_implementation=attention, tie_word_embeddings=False,
    )).eval()  # fmt: skip
    model.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})

    def feed(cache, ids):
        with torch.no_grad():
            return model(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0]

    testing.assert_split_invariant(DynamicCache, feed, weights)
    testing.assert_cost(DynamicCache, feed, [1] * 7, reference=weights, **CACHED)
    testing.assert_cost(DynamicCache, feed, [4, 1, 1, 1], reference=weights, score_cells=34, projected_rows=21)
