"""A trace is the ledgers of two runs, and its totals are the tutorial's closed forms."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.caches import POLICIES
from kvsim.errors import UsageError
from kvsim.generation import plan_stops
from tests.counting.closed_form import step_macs
from tests.models import PRIMES, demo, make_model

SCHEMA = json.loads((Path(kvsim.__file__).parent / "schemas" / "trace-1.json").read_text(encoding="utf-8"))


def check_closed_form(trace, config):
    """Every number of a trace, from the feed alone."""
    stop = 0
    for step in trace.steps:
        new = len(step.fed)
        stop += new
        for side, rows in ((step.no_cache, stop), (step.cached, new)):
            counts = side.counts
            assert counts.score_cells == rows * stop
            assert counts.useful_cells == sum(stop - rows + i + 1 for i in range(rows))
            assert counts.projected_rows == 3 * rows
            assert counts.macs == sum(step_macs(config, rows, stop).values())
            assert counts.flops == 2 * counts.macs
        assert step.no_cache.kv_bytes == 0
        assert step.cached.kv_bytes == 2 * config.n_layers * config.n_kv_heads * config.d_head * stop * trace.item_bytes


def test_the_tutorial():
    trace = kvsim.trace("中华人民", model="demo", max_new_tokens=4, feed="token")
    assert len(trace.steps) == 7
    assert [step.no_cache.counts.score_cells for step in trace.steps] == [1, 4, 9, 16, 25, 36, 49]
    assert [step.cached.counts.score_cells for step in trace.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert (trace.totals.no_cache.score_cells, trace.totals.cached.score_cells) == (140, 28)
    assert (trace.totals.no_cache.projected_rows, trace.totals.cached.projected_rows) == (84, 21)
    assert (trace.totals.no_cache.useful_cells, trace.totals.cached.useful_cells) == (84, 28)
    assert "".join(piece.text for piece in trace.fed) == "中华人民共和国"
    assert "".join(step.next.text for step in trace.steps) == "华人民共和国成"
    assert trace.agrees
    check_closed_form(trace, demo().config)


def test_prefill():
    trace = kvsim.trace("中华人民", feed="prefill")
    assert (trace.totals.no_cache.score_cells, trace.totals.cached.score_cells) == (126, 34)
    assert trace.as_prefill is None
    check_closed_form(trace, demo().config)


@settings(max_examples=25)
@given(
    length=st.integers(1, 9), new=st.integers(1, 9), feed=st.sampled_from(["token", "prefill", "chunk:2", "chunk:5"]),
    cache=st.sampled_from(["dynamic", "static:32"]), dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_any_trace_is_its_closed_form(length, new, feed, cache, dtype):
    model = make_model(PRIMES, dtype)
    ids = list(range(length))
    trace = kvsim.trace(ids, model, new, feed, cache=cache)
    assert trace.agrees
    assert len(trace.steps) == len(plan_stops(length, new, feed))
    assert len(trace.fed) == length + new - 1
    check_closed_form(trace, PRIMES)
    jsonschema.validate(json.loads(trace.to_json()), SCHEMA)
    if trace.as_prefill is not None:
        assert trace.as_prefill == kvsim.trace(ids, model, new, "prefill", cache=cache).totals


def test_the_json_is_the_published_one():
    trace = kvsim.trace("中华人民")
    told = json.loads(trace.to_json())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(told, SCHEMA)
    assert told["text"] == "中华人民"
    assert told["fed"] == ["中", "华", "人", "民", "共", "和", "国"]
    assert told["feed"] == [1] * 7
    assert told["model"] == {"name": "demo", "layers": 2, "heads": 4, "kv_heads": 2, "d_head": 16}
    assert told["totals"]["no_cache"]["score_cells"] == 140
    assert told["steps"][0]["next"] == "华"
    assert "中华人民" in trace.to_json()
    assert "." not in json.dumps(told["totals"])
    told["steps"][0]["cached"]["score_cells"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, SCHEMA)


def test_the_same_trace_twice():
    assert kvsim.trace("The red", max_new_tokens=9).to_json() == kvsim.trace("The red", max_new_tokens=9).to_json()


def test_unknown_characters_are_named():
    trace = kvsim.trace("龘中龘靐")
    assert trace.unknown == ["龘", "靐"]
    assert [piece.text for piece in trace.fed[:4]] == ["龘", "中", "龘", "靐"]


def test_progress_is_told():
    told = []
    kvsim.trace("中华", max_new_tokens=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


class Forgetful(POLICIES["dynamic"]):
    """The tutorial's own mistake: after the first step, new rows are seen once and not kept."""

    def update(self, keys, values, pos, encode):
        held = self.rows
        view = super().update(keys, values, pos, encode)
        if pos.start:
            self.rows = held
            self._keys[:, held:, :] = 0.0
            self._values[:, held:, :] = 0.0
        return view


def test_a_cache_that_forgets_fails_the_check(monkeypatch):
    """The counts are those of a right cache; the logits tell."""
    monkeypatch.setitem(POLICIES, "dynamic", Forgetful)
    trace = kvsim.trace("中华人民")
    assert trace.totals.cached.score_cells == 28
    assert not trace.agrees
    assert trace.max_abs_diff > 100 * trace.allowed_diff


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_new_tokens": 0}, "at least 1, got 0"),
        ({"max_new_tokens": 10**12}, "a context of 1024 tokens, asked for 1000000000003"),
        ({"cache": "static:6"}, 'the static cache holds 6 tokens, asked for 7: use "static:64" or "dynamic"'),
        ({"model": "nowhere"}, "no model 'nowhere'"),
        ({"temperature": 0.0, "top_k": 2}, "need a temperature"),
        ({"feed": "all"}, "unknown feed"),
    ],
)
def test_wrong_input(options, said):
    with pytest.raises(UsageError) as caught:
        kvsim.trace("中华人民", **options)
    assert said in str(caught.value)
