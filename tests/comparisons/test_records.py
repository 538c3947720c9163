"""Runs, traces, conversations and comparisons as objects: one line that says what they are; pickles and deep copies."""

import copy
import dataclasses
import pickle

import pytest

import kvsim
from kvsim.comparisons.chat_script import run_chat
from tests.models import PRIMES, demo, make_model

LONG = "中华人民\n共和国\x1b[0m" * 30


def parts_of(record):
    """A record and all records inside it, of this package."""
    found = [record] if type(record).__module__.startswith("kvsim.") else []
    fields = []
    if dataclasses.is_dataclass(record):
        fields = [getattr(record, field.name) for field in dataclasses.fields(record)]
    elif isinstance(record, (list, tuple)):
        fields = list(record)
    elif isinstance(record, kvsim.Conversation):
        fields = record.turns
    return found + [part for field in fields for part in parts_of(field)]


def make_records():
    model = demo()
    talk = kvsim.Conversation(model)
    talk.say(LONG, 3)
    talk.say([5] * 100, 3)
    chat = run_chat([LONG, "人民"], model, "window:3", 3, forks=[(1, "国")], edits=[(1, LONG)])
    compared = kvsim.compare(LONG, model, ["window:8", "none", "int8", "static:999"], 3)
    return {
        "run": kvsim.generate(model, LONG, 3),
        "run of ids": kvsim.generate(make_model(PRIMES), [1] * 60, 3),
        "run of beams": kvsim.generate(model, LONG, 3, beams=3),
        "trace": kvsim.trace(LONG, model, 3, "chunk:100"),
        "conversation": talk,
        "chat": chat,
        "comparison": compared,
        "totals": (chat.totals, kvsim.trace("中", model).totals, compared.all_of(compared.runs[0])),
    }


@pytest.fixture(scope="module")
def records():
    return make_records()


def test_each_is_one_line_of_at_most_200_characters(records):
    for part in parts_of(list(records.values())):
        if part.__class__.__module__.startswith("kvsim.caches"):
            continue  # a cache's own line is tested with the caches
        line = repr(part)
        assert len(line) <= 200, line
        assert line.isprintable()
        assert type(part).__name__ in line


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: kvsim.generate(demo(), "中华人民", 4),
            "<kvsim.Run '中华人民共和国成': new tokens 4, steps 4, 1,208,448 MACs, cache dynamic>",
        ),
        (
            lambda: kvsim.generate(demo(), "中华", 1).steps[0],
            "<kvsim.Step 1: fed [98, 209], next 130, 19 products, 343,808 MACs>",
        ),
        (
            lambda: kvsim.trace("中华人民"),
            "<kvsim.Trace '中华人民共和国成': demo, caches none and dynamic, steps 7, 140 and 28 score cells,"
            " logits agree>",
        ),
        (
            lambda: kvsim.trace("中华人民").steps[1],
            "<TraceStep 2: fed '华', next '人', 343,808 and 171,904 MACs, logits agree>",
        ),
        (kvsim.Conversation, "<kvsim.Conversation turns 0, tokens 0, model demo, cache dynamic>"),
        (
            lambda: kvsim.Conversation().say("床前明月光，"),
            "<kvsim.Turn 1: '床前明月光，', reply '疑是地上霜。举头', tokens reused 0, fed 13, logits agree>",
        ),
        (
            lambda: kvsim.compare("床前明月光", "demo", ["window:4", "none"], 2),
            "<kvsim.PolicyComparison '床前明月光，疑': demo, reference dynamic, compared with it: window:4, none>",
        ),
    ],
)
def test_what_a_line_says(make, line):
    assert repr(make()) == line


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_are_equal(records, copied):
    """Runs and conversations hold a cache and a model: their copies continue in tests/test_pickling.py."""
    for name in ("trace", "comparison"):
        assert copied(records[name]) == records[name]
        assert copied(records[name]).to_json() == records[name].to_json()
    chat = copied(records["chat"])
    assert chat.to_json() == records["chat"].to_json()
    assert chat.lines[-1].turn.restart.values == records["chat"].lines[-1].turn.restart.values
    for name in ("run", "run of ids", "run of beams"):
        assert copied(records[name]).steps == records[name].steps
        assert copied(records[name]).beams == records[name].beams
    talk = copied(records["conversation"])
    assert talk.turns == records["conversation"].turns
    assert talk.cache.ops is talk.model.ops
    with pytest.raises(dataclasses.FrozenInstanceError):
        talk.turns[0].number = 3


def test_the_repr_of_a_trace_is_cut():
    """A model's name is that of its folder, which may be long."""
    trace = kvsim.trace("中华", model=demo(), max_new_tokens=1)
    long = dataclasses.replace(trace, model={**trace.model, "name": "m" * 255})
    assert len(repr(long)) == 200
    assert repr(long).endswith("...>")
