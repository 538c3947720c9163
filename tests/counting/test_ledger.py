"""Promises 5 to 7: the ledger is exact, against a closed form that is independent of the model's code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError
from kvsim.spans import Span, admitted_pairs
from tests.counting.closed_form import step_macs, step_useful_macs
from tests.models import PRIMES, configs, cuts, make_model


def by_place(ledger, amount):
    """Sums of `amount` by layer and kind ("0.scores"), the experts of a layer added up."""
    sums = {}
    for event in ledger:
        parts = event.site.split(".")
        place = parts[-1] if len(parts) == 1 else f"{parts[1]}.{parts[-1]}"
        sums[place] = sums.get(place, 0) + getattr(event, amount)
    return sums


@settings(max_examples=150)
@given(config=configs(), data=st.data(), spec=st.sampled_from(["none", "dynamic", "static:17"]))
def test_ledger_is_the_closed_form(config, data, spec):
    model = make_model(config)
    cache = model.new_cache(spec)
    ids = [i % config.vocab_size for i in range(data.draw(st.integers(1, 17)))]
    stop, keeps_window = 0, spec == "dynamic"
    for size in data.draw(cuts(len(ids))):
        stop += size
        new = ids[cache.seen : stop]
        with model.count() as ledger:
            model(new, cache)
        assert by_place(ledger, "macs") == step_macs(config, len(new), stop, keeps_window=keeps_window)
        assert by_place(ledger, "useful_macs") == step_useful_macs(config, len(new), stop, keeps_window)
        window = config.layers[0].window or stop
        assert ledger.useful_cells() == sum(min(stop - i, window) for i in range(len(new)))
        if not (keeps_window and config.layers[0].window):
            assert ledger.score_cells() == len(new) * stop
        assert ledger.projected_rows() == (1 if config.latent else 3) * len(new)


def test_groups_add_up():
    model = make_model(PRIMES)
    with model.count() as ledger:
        model([1, 2, 3])
    for key in ("site", "layer", "kind"):
        assert sum(t.macs for t in ledger.by(key).values()) == ledger.macs
        assert sum(t.calls for t in ledger.by(key).values()) == len(ledger)
    assert list(ledger.by("layer")) == ["layers.0", "layers.1", "head"]
    assert ledger.by("kind")["scores"].flops == 2 * ledger.by("kind")["scores"].macs
    assert ledger.flops == 2 * ledger.macs
    assert ledger.useful_macs < ledger.macs
    with pytest.raises(UsageError, match="use site, layer or kind"):
        ledger.by("module")


def test_ledgers_nest():
    model = make_model(PRIMES)
    with model.count() as outer:
        model([1])
        with model.count() as inner:
            model([1, 2])
        model([3])
    model([4])
    assert len(inner) == len(outer) // 3
    assert outer.events[len(inner) : 2 * len(inner)] == inner.events


def test_a_ledger_closes_when_the_block_fails():
    model = make_model(PRIMES)
    with pytest.raises(UsageError), model.count():
        model([])
    assert model.ops.here.ledgers == ()
    assert model.ops.here.tally[0] is None


def test_logits_last_counts_one_row_of_the_head():
    model = make_model(PRIMES)
    with model.count() as ledger:
        model([1, 2, 3, 4], logits="last")
    assert by_place(ledger, "macs") == step_macs(PRIMES, 4, 4, heads_out=1)


def test_a_batch_shares_projections_and_attends_per_sequence():
    model = make_model(PRIMES)
    with model.count() as ledger:
        model.batch([([1, 2], None), ([3, 4, 5], None)])
    rows = [(e.m, e.n) for e in ledger if e.site == "layers.0.scores"]
    assert rows == [(2, 2), (3, 3)]
    assert [e.m for e in ledger if e.site == "layers.0.query"] == [5]
    assert ledger.score_cells() == 13
    assert ledger.projected_rows() == 15


def test_an_unknown_kind_is_an_error():
    model = make_model(PRIMES)
    x = np.ones((2, 2), "float64")
    with model.count(), pytest.raises(ValueError, match="unknown kind of product"):
        model.ops.matmul("mystery", x, x)


def test_a_layer_without_events_is_an_error():
    model = make_model(PRIMES)
    with model.count() as ledger:
        model([1])
    for ask in (ledger.score_cells, ledger.useful_cells, ledger.projected_rows):
        assert ask(1) > 0
        with pytest.raises(UsageError, match="nothing was counted in layer 2"):
            ask(2)


def test_an_empty_ledger_is_zero():
    assert (Ledger().macs, Ledger().flops, Ledger().by("site")) == (0, 0, {})


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_admitted_pairs_by_counting(query, n_queries, key, n_keys):
    queries, keys = Span(query, query + n_queries), Span(key, key + n_keys)
    counted = sum(k <= q for q in range(*queries) for k in range(*keys))
    assert admitted_pairs(queries, keys) == counted


def test_repr_is_one_short_line():
    model = kvsim.load("demo")
    with model.count() as ledger:
        model([1, 2, 3])
    assert repr(ledger) == f"<kvsim.Ledger: {len(ledger)} products, {ledger.macs:,} MACs>"
    assert len(repr(ledger)) < 200
