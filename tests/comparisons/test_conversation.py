"""A conversation reuses its cache; after any turns, edits and forks the cache equals that of a fresh run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvsim
from kvsim.comparisons.conversation import Conversation, common_prefix
from kvsim.errors import UsageError
from kvsim.generation.lockstep import run_lockstep
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.counting.closed_form import step_macs
from tests.models import CLOSE, PRIMES, configs, demo, make_model

LONG = replace(PRIMES, max_context=512)
ROW = 2 * PRIMES.n_layers * PRIMES.n_kv_heads * PRIMES.d_head * 8  # bytes of a token in float64


def greedy(model, ids, count):
    """The greedy continuation, everything computed again at every step."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(np.argmax(model(ids)[-1])))
    return ids[-count:]


def check_cache(talk):
    """The cache holds all but the last id, whose logits equal those of a run over everything."""
    assert talk.cache.ids == talk.ids[:-1]
    assert talk.cache.seen == len(talk.ids) - 1
    whole = talk.model(talk.ids)
    last = talk.model(talk.ids[-1:], talk.cache.fork())
    assert np.abs(last - whole[-1:]).max() <= CLOSE["float64"] * np.abs(whole).max()


def check_work(work, config, cached, stop_of_text, new):
    """Counts of a turn from sizes alone: one step up to the text's end, then one token a step."""
    steps = [(stop_of_text - cached, stop_of_text), *((1, stop_of_text + i) for i in range(1, new))]
    assert work.counts.score_cells == sum(rows * stop for rows, stop in steps)
    assert work.counts.useful_cells == sum(stop - i for rows, stop in steps for i in range(rows))
    assert work.counts.projected_rows == sum(3 * rows for rows, _ in steps)
    assert work.counts.macs == sum(sum(step_macs(config, rows, stop).values()) for rows, stop in steps)
    assert work.counts.flops == 2 * work.counts.macs
    assert work.kv_bytes == ROW * steps[-1][1]


def check_turn(talk, turn, cached):
    model, config = talk.model, talk.model.config
    said = turn.start + len(turn.ids)
    assert turn.cached == cached
    assert turn.new == turn.stop - 1 - cached
    assert list(turn.reply_ids) == greedy(model, talk.ids[:said], len(turn.reply_ids))
    assert tuple(talk.ids[turn.start : turn.stop]) == turn.ids + turn.reply_ids
    check_work(turn.reused, config, cached, said, len(turn.reply_ids))
    check_work(turn.fresh, config, 0, said, len(turn.reply_ids))
    assert turn.agrees
    assert turn.max_abs_diff <= turn.allowed_diff
    assert turn.restart is None


TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=4)  # few ids, so that texts share beginnings
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["say", "say", "edit", "fork"]), TEXTS, st.integers(1, 4), st.integers(0, 9)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=60)
@given(ACTIONS, st.sampled_from(["dynamic", "static:200"]), st.integers(0, 2))
def test_any_conversation(actions, spec, seed):
    model = make_model(LONG, "float64", seed)
    talks = [Conversation(model, spec)]
    for action, text, new, place in actions:
        talk = talks[place % len(talks)]
        if action == "fork":
            talks.append(talk.fork())
            continue
        before = list(talk.ids)
        if action == "edit" and talk.turns:
            number = place % len(talk.turns) + 1
            start = talk.turns[number - 1].start
            same = common_prefix(before[:-1], [*before[:start], *text])
            turn = talk.edit(number, text, new)
            check_turn(talk, turn, min(same, start + len(text) - 1))
            assert len(talk.turns) == turn.number == number
        else:
            turn = talk.say(text, new)
            check_turn(talk, turn, max(len(before) - 1, 0))
            assert talk.turns[-1] is turn
            assert turn.number == len(talk.turns)
        assert talk.ids[: turn.start] == before[: turn.start]
    for talk in talks:
        assert [turn.start for turn in talk.turns] == [0, *(turn.stop for turn in talk.turns)][: len(talk.turns)]
        if talk.turns:
            check_cache(talk)


@settings(max_examples=60)
@given(config=configs(), seed=st.integers(0, 3))
def test_any_model(config, seed):
    model = make_model(replace(config, max_context=64), "float64", seed)
    talk = Conversation(model)
    for text in ([1, 2, 3], [4], [2, 2]):
        turn = talk.say(text, 2)
        assert turn.agrees
        check_cache(talk)
    branch = talk.fork()
    branch.say([3], 2)
    check_cache(branch)
    check_cache(talk)


def test_bit_for_bit_where_every_sum_adds_in_one_order():
    talk = Conversation(kvsim.load("demo", backend="exact"))
    turns = [
        talk.say("什么是KV缓存？"),
        talk.say("床前明月光，"),
        talk.fork().say("今天天气"),
        talk.edit(2, "床前看月光，"),
    ]
    assert all(turn.identical and turn.agrees and turn.max_abs_diff == 0.0 for turn in turns)
    assert [turn.cached for turn in turns] == [0, 15, 29, 18]
    whole = talk.model(talk.ids)
    last = talk.model(talk.ids[-1:], talk.cache.fork())
    assert last.tobytes() == whole[-1:].tobytes()


def test_the_tutorials_four_turns():
    """Only the new question and answer are computed; without reuse the whole conversation, at every turn."""
    talk = Conversation("demo")
    turns = [talk.say(text, 8) for text in ("什么是KV缓存？", "床前明月光，", "今天天气", "中华人民")]
    assert [turn.reply for turn in turns] == [
        "把算过的结果存好",
        "疑是地上霜。举头",
        "很好，我们一起去",
        "共和国成立于19",
    ]
    assert [(turn.cached, turn.new) for turn in turns] == [(0, 15), (15, 14), (29, 12), (41, 12)]
    assert [turn.reused.counts.score_cells for turn in turns] == [148, 336, 436, 580]
    assert [turn.fresh.counts.score_cells for turn in turns] == [148, 666, 1422, 2466]
    assert [turn.reused.counts.projected_rows for turn in turns] == [45, 42, 36, 36]
    assert [turn.fresh.counts.projected_rows for turn in turns] == [45, 87, 123, 159]
    assert [turn.reused.kv_bytes for turn in turns] == [512 * n for n in (15, 29, 41, 53)]
    assert [turn.fresh.kv_bytes for turn in turns] == [turn.reused.kv_bytes for turn in turns]
    assert talk.text == "".join(f"{turn.text}{turn.reply}" for turn in turns)


def test_without_a_cache_nothing_is_reused():
    talk = Conversation(make_model(LONG), "none")
    for text in ([1, 2], [3]):
        turn = talk.say(text, 3)
        assert turn.cached == 0
        assert turn.reused == turn.fresh
        assert turn.reused.kv_bytes == 0
    assert talk.edit(1, [1, 3]).cached == 0


def test_a_cache_that_cannot_be_cropped_is_cleared():
    """And then equals the cache of the model with that window."""
    talk = Conversation(make_model(LONG), "window:3")
    talk.say([1, 2, 3, 4], 3)
    talk.say([5, 6], 3)
    turn = talk.edit(1, [1, 2, 9, 9], 3)
    assert (turn.cached, turn.new) == (0, 6)
    assert "a window of 3 tokens cannot be cropped to 2" in str(turn.restart)
    narrow = Model(
        replace(LONG, layers=tuple(replace(kind, window=3) for kind in LONG.layers)), random_weights(LONG),
        dtype="float64",
    )  # fmt: skip
    assert list(turn.reply_ids) == greedy(narrow, [1, 2, 9, 9], 3)
    whole = narrow(talk.ids)
    last = talk.model(talk.ids[-1:], talk.cache)
    assert np.abs(last - whole[-1:]).max() <= CLOSE["float64"] * np.abs(whole).max()


def test_a_window_that_has_evicted_nothing_is_cropped():
    talk = Conversation(make_model(LONG), "window:30")
    talk.say([1, 2, 3, 4], 3)
    turn = talk.edit(1, [1, 2, 9, 9])
    assert (turn.cached, turn.restart) == (2, None)


def test_the_same_text_again_feeds_only_its_last_token():
    talk = Conversation(make_model(LONG))
    first = talk.say([1, 2, 3], 4)
    again = talk.edit(1, [1, 2, 3])
    assert (again.cached, again.reply_ids) == (2, first.reply_ids)
    shorter = talk.edit(1, [1, 2], 1)
    assert (shorter.cached, shorter.new) == (1, 1)
    check_cache(talk)


def test_a_fork_is_independent():
    talk = Conversation(make_model(LONG))
    talk.say([1, 2, 3], 2)
    ids, seen = list(talk.ids), talk.cache.seen
    branch = talk.fork()
    turn = branch.say([4, 5], 2)
    assert turn.cached == seen
    assert (talk.ids, talk.cache.seen, len(talk.turns)) == (ids, seen, 1)
    other = talk.say([6], 2)
    assert branch.ids[: len(ids)] == ids
    assert branch.ids[len(ids) :] == [*turn.ids, *turn.reply_ids]
    assert other.number == turn.number == 2
    check_cache(talk)
    check_cache(branch)


@pytest.mark.parametrize("action", ["say", "edit"])
def test_an_interrupted_turn_leaves_no_trace(action, monkeypatch):
    talk = Conversation(make_model(LONG))
    talk.say([1, 2, 3], 2)
    talk.say([4], 2)
    ids, turns = list(talk.ids), list(talk.turns)

    def interrupted(*arguments, **options):
        turns = run_lockstep(*arguments, **options)
        yield next(turns)
        yield next(turns)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kvsim.comparisons.conversation.run_lockstep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            talk.say([7, 8], 5) if action == "say" else talk.edit(1, [1, 9], 5)
    assert (talk.ids, talk.turns) == (ids, turns)
    turn = talk.say([7, 9], 2)
    assert list(turn.reply_ids) == greedy(talk.model, [*ids, 7, 9], 2)
    assert turn.cached == (len(ids) + 1 if action == "say" else 1)
    check_cache(talk)


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda talk: talk.say([]), "no token ids"),
        (lambda talk: talk.say([1], 0), "at least 1, got 0"),
        (lambda talk: talk.say([1] * 600), "a context of 512 tokens"),
        (lambda talk: talk.say("text"), "has no tokenizer.json"),
        (lambda talk: talk.say([9999]), "outside the vocabulary"),
        (lambda talk: talk.edit(0, [1]), "there is no turn 0: this conversation has 2"),
        (lambda talk: talk.edit(3, [1]), "there is no turn 3"),
        (lambda talk: talk.edit(True, [1]), "there is no turn True"),
        (lambda talk: talk.edit(1, [1] * 600), "a context of 512 tokens"),
        (lambda talk: talk.edit(1, []), "no token ids"),
    ],
)
def test_a_refused_turn_changes_nothing(do, said):
    talk = Conversation(make_model(LONG))
    talk.say([1, 2, 3], 2)
    talk.say([4], 2)
    before = list(talk.ids), list(talk.turns), talk.cache.seen, list(talk.cache.ids)
    with pytest.raises(UsageError) as caught:
        do(talk)
    assert said in str(caught.value)
    assert (talk.ids, talk.turns, talk.cache.seen, talk.cache.ids) == before


def test_a_full_static_cache_is_refused():
    talk = Conversation(make_model(LONG), "static:10")
    talk.say([1, 2, 3], 3)
    with pytest.raises(UsageError, match="static cache holds 10 tokens, asked for 11"):
        talk.say([1, 2], 4)
    assert talk.say([1, 2], 3).cached == 5


def test_encoders_are_refused():
    from kvsim.doctor.against_numpy import make
    from kvsim.loading.small_models import read_small_models

    with pytest.raises(UsageError, match="needs a model without an encoder"):
        Conversation(make(read_small_models()["bart"], "numpy", "float32"))


class LetterTokenizer:
    """A tokenizer of letters that puts a special token before every text, as many do: 0."""

    def encode(self, text):
        return [0, *(ord(c) - ord("a") + 1 for c in text)]

    def decode(self, ids):
        return "".join("^" if i == 0 else chr(ord("a") + i - 1) if i < 27 else "?" for i in ids)

    def split(self, text):
        return [kvsim.text.Piece(i, self.decode([i]), i != 1) for i in self.encode(text)]

    def piece(self, id):
        return self.decode([id])


def test_the_special_token_before_a_text_is_kept_once():
    model = Model(LONG, random_weights(LONG), dtype="float64", tokenizer=LetterTokenizer())
    talk = Conversation(model, separator="z")
    first, second = talk.say("abc", 2), talk.say("ab", 2)
    third = talk.say([5], 2)
    assert first.ids == (0, 1, 2, 3)
    assert second.ids == (26, 1, 2)
    assert third.ids == (26, 5)
    assert first.unknown == ("a",)
    assert third.text is None
    assert talk.edit(1, "b").ids == (0, 2)
    plain = Conversation(model)
    plain.say("abc", 2)
    assert plain.say("ab", 2).ids == (1, 2)


def test_a_separator_between_turns():
    talk = Conversation(demo(), separator="\n")
    talk.say("你好！", 4)
    turn = talk.say("今天", 4)
    assert talk.model.tokenizer.decode(list(turn.ids)) == "\n今天"
    assert turn.text == "今天"
    assert "！" in talk.text
    assert "\n今天" in talk.text
    with pytest.raises(UsageError, match="the text is empty"):
        talk.say("")


def test_a_fault_in_the_cache_is_found(monkeypatch):
    """The counts of a cache that forgets are right; only the logits differ."""
    from kvsim.caches.specs import POLICIES
    from tests.comparisons.test_trace import Forgetful

    monkeypatch.setitem(POLICIES, "dynamic", Forgetful)
    talk = Conversation(demo())
    assert not talk.say("床前明月光，", 4).agrees or not talk.say("今天", 4).agrees


def test_positions_that_depend_on_the_length_are_reported():
    folder = Path(__file__).parent.parent / "fixtures" / "llama_dynamic_ntk"
    talk = Conversation(kvsim.load(folder, dtype="float64"))
    assert talk.say([5, 6, 7], 2).agrees
    assert not talk.say([8, 9, 10, 11], 4).agrees
    assert talk.by_length == "dynamic"
