"""What a check would not see is refused, and what it cannot compare is not named."""

import numpy as np
import pytest

import kvsim
from kvsim import testing
from kvsim.config import LayerKind
from kvsim.errors import UsageError
from kvsim.loading.random_weights import random_weights
from kvsim.testing import OracleError
from tests.models import PRIMES
from tests.testing.strangers.numpy_decoders import NumpyDecoder


def step(state, ids):
    return state.forward(ids)


def test_a_window_that_is_never_full_is_refused(monkeypatch):
    plain = testing.weights()
    for window in (64, 70):
        with pytest.raises(UsageError, match="it would not be checked"):
            testing.assert_split_invariant(lambda: NumpyDecoder(plain), step, testing.weights(window=window))
    monkeypatch.setattr("kvsim.testing.verdict.diagnosing.BANK", {})  # what is wrong is not looked at here
    small = {"heads": 2, "kv_heads": 1, "layers": 1, "d_head": 4}  # 64 tokens are slow in a larger model
    plain = testing.weights(**small)
    with pytest.raises(OracleError):
        testing.assert_split_invariant(lambda: NumpyDecoder(plain), step, testing.weights(**small, window=63))


def test_a_loaded_model_with_a_long_window_is_compared_with_a_warning():
    kinds = tuple(LayerKind(kind.rope, 100) for kind in PRIMES.layers)
    config = kvsim.config.Config(**{**vars(PRIMES), "layers": kinds})
    model = kvsim.model.Model(config, random_weights(config), dtype="float64")

    class Own:
        def __init__(self):
            self.cache = model.new_cache()

        def forward(self, ids):
            return model(ids, self.cache)

    with pytest.warns(UserWarning, match="it would not be checked"):
        testing.assert_split_invariant(Own, step, model)


def test_policies_and_windows_that_check_nothing_are_refused():
    weights = testing.weights()
    with pytest.raises(UsageError, match="it would not be checked"):
        testing.assert_policy(lambda: NumpyDecoder(weights), step, weights, "sinks:4+60")
    with pytest.raises(UsageError, match="windows= is empty"):
        testing.assert_split_invariant(NumpyDecoder, step, weights, windows=())
    with pytest.raises(UsageError, match="unknown cache"):
        testing.assert_close_to(lambda: NumpyDecoder(weights), step, weights, policy="intt8", max_logit_error=1.0)


def test_what_gives_nothing_to_compare_does_not_pass():
    """A smaller text that raises is not said to pass."""
    weights = testing.weights(heads=2, kv_heads=1, layers=1, d_head=4)

    class NeedsTwo(NumpyDecoder):
        def forward(self, ids):
            if len(ids) == 1 and not self.seen:
                raise ValueError("too short")
            return super().forward(ids)[:, ::-1]

    with pytest.raises(OracleError, match=r"smallest : feed \[2\] \(every smaller one passes or gives nothing to comp"):
        testing.assert_split_invariant(lambda: NeedsTwo(weights), step, weights)
    with pytest.raises(OracleError, match=r"keys: 2\) \(every smaller one passes or gives nothing to compare\)"):
        testing.assert_attention(lambda q, k, v: 1.0 * q if k.shape[1] > 1 else None)


@pytest.mark.parametrize(("rows", "options"), [(16, {}), (32, {}), (40, {"length": 48})])
def test_what_breaks_where_arrays_grow_is_seen(rows, options):
    """One default text is longer than 32 rows, and has a chunk across the row 32; `length` asks for a longer one. It
    says "shortest" instead of "smallest", because what was searched does not fail."""

    class LosesRows(NumpyDecoder):
        def remember(self, layer, k, v):
            keys, values = super().remember(layer, k, v)
            if keys.shape[1] > rows:
                keys = np.concatenate([0 * keys[:, :rows], keys[:, rows:]], axis=1)
            return keys, values

    weights = testing.weights(heads=2, kv_heads=1, layers=1, d_head=4)
    if "length" in options:
        testing.assert_split_invariant(lambda: NumpyDecoder(weights), step, weights, **options)
    if options == {"length": 48}:
        testing.assert_split_invariant(lambda: LosesRows(weights), step, weights)
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(lambda: LosesRows(weights), step, weights, **options)
    assert caught.value.facts["diagnosis"] == ["unknown"]
    assert caught.value.facts["smallest"] == []
    assert "no feed of up to 6 tokens fails" in str(caught.value)
    assert f"right at every position before {30 if rows == 32 else rows}" in str(caught.value)


def test_a_length_beyond_the_context_is_refused():
    weights = testing.weights()
    with pytest.raises(UsageError, match="length is at most the model's context, 64 tokens, got 65"):
        testing.assert_split_invariant(lambda: NumpyDecoder(weights), step, weights, length=65)


def test_the_first_text_comes_once_more():
    weights, fed = testing.weights(), []

    def make():
        fed.append([])
        return NumpyDecoder(weights)

    def watched(state, ids):
        fed[-1].append(list(ids))
        return state.forward(ids)

    testing.assert_split_invariant(make, watched, weights)
    assert fed[0] == fed[-1]
    assert all(text != fed[0] for text in fed[1:-1])


def test_what_is_not_the_same_twice_has_no_picture_and_no_name():
    weights, generator = testing.weights(), np.random.default_rng(0)
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(
            lambda: NumpyDecoder(weights), lambda m, ids: m.forward(ids) + 1e-6 * generator.normal(), weights
        )
    text = str(caught.value)
    assert "not deterministic" in text
    assert "who depends on whom" not in text
    assert caught.value.facts["diagnosis"] == ["unknown"]


@pytest.mark.parametrize("wrong", [lambda y: y.transpose(0, 2, 1, 3), lambda y: y[:, :1], lambda y: y[:, :, :1]])
def test_a_wrong_shape_is_not_compared_where_another_size_makes_it_right(wrong):
    """Four queries and four heads: transposed, the shape is right by chance."""

    def attention(q, k, v):
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        rows = q.shape[2]
        past = {} if rows == k.shape[2] else {"past_key": k[:, :, :-rows], "past_value": v[:, :, :-rows]}
        made = testing.attention(q, k[:, :, -rows:], v[:, :, -rows:], causal=True, **past)
        return made.output.transpose(0, 2, 1, 3)

    testing.assert_attention(attention, heads=4, kv_heads=2)
    with pytest.raises(OracleError) as caught:
        testing.assert_attention(lambda q, k, v: wrong(attention(q, k, v)), heads=4, kv_heads=2)
    assert "attention gave an array of shape" in str(caught.value)
    assert "values" not in str(caught.value)
    assert caught.value.facts["diagnosis"] == []


def test_queries_are_the_last_of_the_keys():
    with pytest.raises(UsageError, match="3 queries and 2 keys"):
        testing.assert_attention(lambda q, k, v: q, show=(3, 2))


@pytest.mark.parametrize(
    "asked",
    [
        lambda: testing.weights(seed=-1), lambda: testing.weights(heads="4"), lambda: testing.weights(vocab=1),
        lambda: testing.weights(context=5), lambda: testing.weights(d_model=0), lambda: testing.weights(window=0),
        lambda: testing.weights(layers=True), lambda: testing.cases(kv_heads=[0]),
        lambda: testing.assert_attention(lambda q, k, v: q, seed=-1),
        lambda: testing.assert_attention(lambda q, k, v: q, heads="4"),
        lambda: testing.assert_split_invariant(lambda: 0, lambda m, ids: 0, testing.weights(), seed=-1),
        lambda: testing.assert_split_invariant(lambda: 0, lambda m, ids: 0, testing.weights(), cases=-1),
    ],
)  # fmt: skip
def test_sizes_that_make_no_sense_are_usage_errors(asked):
    with pytest.raises(UsageError, match="must be a whole number of at least"):
        asked()


def test_a_text_fits_into_the_smallest_context():
    weights = testing.weights(context=8)
    testing.assert_split_invariant(lambda: NumpyDecoder(weights), step, weights, cases=2)
