"""`generate`: what is fed, what is chosen, where it stops."""

import numpy as np
import pytest

import kvsim
from kvsim.errors import UsageError
from tests.models import PRIMES, demo, make_model


def test_a_run_of_the_demo_model():
    run = kvsim.generate(demo(), "中华人民", max_new_tokens=4, cache="dynamic", feed="token")
    assert run.text == "中华人民共和国成"
    assert run.ids == demo().tokenizer.encode(run.text)
    assert len(run.steps) == 4 + 4 - 1  # the last new token is chosen but never fed
    assert [step.number for step in run.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert demo().tokenizer.decode([step.next for step in run.steps]) == "华人民共和国成"
    assert [step.fed for step in run.steps] == [(i,) for i in run.ids[:7]]
    assert run.ledger.events == [event for step in run.steps for event in step.events]
    assert run.ledger.score_cells() == 28
    assert run.steps[0].logits is None


def test_every_feed_and_cache_gives_the_same_text_and_logits():
    runs = [
        kvsim.generate(demo("float64"), "What is KV", 20, feed=feed, cache=cache, keep_logits=True)
        for feed in ("token", "prefill", "chunk:4")
        for cache in ("none", "dynamic", "static:64")
    ]
    reference = runs[0]
    for run in runs[1:]:
        assert run.ids == reference.ids
        difference = run.steps[-1].logits - reference.steps[-1].logits
        assert np.abs(difference).max() <= 1e-12 * np.abs(reference.steps[-1].logits).max()


def test_stops():
    model = demo()
    line = "中华人民共和国成立于1949年10月1日，首都是北京。"
    newline = model.tokenizer.encode("\n")[0]
    assert kvsim.generate(model, "中", 200, stop="\n").text == line + "\n"
    assert kvsim.generate(model, "中", 200, stop=newline).text == line + "\n"
    assert kvsim.generate(model, "中", 200, stop=["年10", newline]).text == line[: line.index("年10") + 3]
    assert len(kvsim.generate(model, "中", 60).steps) == 60
    with pytest.raises(UsageError, match="stop must not be empty"):
        kvsim.generate(model, "中", stop="")


def test_a_list_of_prompts_gives_a_list_of_runs():
    model = demo()
    runs = kvsim.generate(model, ["中华", [5, 6, 7]], 3)
    assert [run.ids for run in runs] == [kvsim.generate(model, p, 3).ids for p in ("中华", [5, 6, 7])]
    assert isinstance(kvsim.generate(model, [5, 6, 7], 3), kvsim.Run)
    assert isinstance(kvsim.generate(model, np.array([5, 6, 7]), 3), kvsim.Run)


def test_iterators_and_numpy_integers_are_accepted():
    model = demo()
    ids = model.tokenizer.encode("中华")
    assert kvsim.generate(model, iter(ids), 3).ids == kvsim.generate(model, ids, 3).ids
    assert len(kvsim.generate(model, (p for p in ["中", "华"]), 3)) == 2
    assert kvsim.generate(model, "中", np.int64(3)).ids == kvsim.generate(model, "中", 3).ids
    newline = model.tokenizer.encode("\n")[0]
    for stop in (np.int64(newline), [np.int64(newline)], np.array([newline])):
        assert kvsim.generate(model, "中", 200, stop=stop).text.endswith("\n")


def test_without_counting():
    run = kvsim.generate(demo(), "中", 3, count=False)
    assert len(run.ledger) == 0
    assert all(step.events == () for step in run.steps)


def test_the_head_on_the_last_position_only():
    full, last = (kvsim.generate(demo(), "中华人民", 2, logits=logits) for logits in ("all", "last"))
    assert full.ids == last.ids
    head = [run.ledger.by("kind")["head"].macs for run in (full, last)]
    assert head[0] == 5 * 64 * demo().config.vocab_size
    assert head[1] == 2 * 64 * demo().config.vocab_size


def test_an_unknown_character_is_kept_in_the_text():
    assert kvsim.generate(demo(), "龘中", 1).text.startswith("龘中")


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("", {}, "the text is empty"),
        ([], {}, "no token ids: give at least one"),
        ("中", {"max_new_tokens": 0}, "the number of new tokens must be a whole number of at least 1, got 0"),
        ("中", {"max_new_tokens": -2}, "at least 1, got -2"),
        ("中", {"max_new_tokens": 2.0}, "at least 1, got 2.0"),
        ("中", {"max_new_tokens": 1025}, "a context of 1024 tokens, asked for 1025 (1 of the prompt"),
        ("中" * 1025, {"max_new_tokens": 1}, "a context of 1024 tokens, asked for 1025"),
        ("中华人民", {"cache": "static:6"}, 'the static cache holds 6 tokens, asked for 7: use "static:64"'),
        ("中", {"cache": "lru"}, "unknown cache"),
        ("中", {"feed": "all"}, "unknown feed"),
        ("中", {"feed": None}, "unknown feed None"),
        ("中", {"cache": None}, "unknown cache None"),
        ("中", {"stop": 3.5}, "stop takes"),
        ("中", {"stop": ["国", None]}, "stop takes token ids and texts, got None"),
        ("中", {"temperature": "1"}, "temperature must be a number"),
        ("中", {"temperature": 1.0, "top_k": 1.5}, "top-k must be a whole number of at least 1, got 1.5"),
        ("中", {"seed": None}, "seed must be a whole number of at least 0, got None"),
        ([1.5, 2], {}, "token ids are integers"),
        ([5, "中"], {}, "token ids are integers"),
        ([99999], {}, "outside the vocabulary"),
    ],
)
def test_wrong_input(prompt, options, said):
    with pytest.raises(UsageError) as caught:
        kvsim.generate(demo(), prompt, **({"max_new_tokens": 4} | options))
    assert said in str(caught.value)


def test_ids_without_a_tokenizer():
    model = make_model(PRIMES)
    assert kvsim.generate(model, [1, 2], 3).text is None
    with pytest.raises(UsageError, match=r"no tokenizer\.json: give token ids"):
        kvsim.generate(model, "ab", 3)
    with pytest.raises(UsageError, match="stop at token ids"):
        kvsim.generate(model, [1, 2], 3, stop="x")
