"""The mistake bank: every mistake is caught under its policy and diagnosed as itself alone, and its recorded smallest
feed is the smallest that shows it."""

from functools import cache

import numpy as np
import pytest
from hypothesis import find, settings
from hypothesis import strategies as st

from kvsim.errors import UsageError
from kvsim.testing.bank import BANK, find_mistake
from kvsim.testing.feeds.chunking import make_text, small_feeds
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import equal
from kvsim.testing.subject.weights import make_weights
from kvsim.testing.verdict.diagnosing import run_decoder
from tests.marks import case
from tests.testing.confusion import BLANK, LOST, ON_A_BOUNDARY, READINGS, UNNAMED, is_lost, programme, programme_of

IDS = """
    rope_pos_restarts_at_0 rope_pos_after_append rope_off_by_one_decode rope_len_committed_by_layer0
    rope_interleaved_pairs rope_q_not_rotated rope_k_not_rotated cache_pre_rope_never_rotated
    double_rope_on_read rope_applied_to_v rope_over_heads_axis layers_share_one_cache concat_prepends_new
    concat_wrong_axis cache_overwritten v_not_appended_in_order decode_does_not_append new_token_not_visible
    gqa_tile_instead_of_repeat gqa_all_heads_use_kv0 scale_missing scale_by_d_model scale_not_sqrt mask_top_left
    mask_missing mask_only_when_square mask_strict_no_self mask_one_future mask_zero_instead_of_inf
    mask_after_softmax softmax_over_queries softmax_over_heads softmax_missing used_k_as_v
    heads_merged_without_transpose window_keeps_one_extra window_keeps_one_less window_ignored_in_decode
    window_ignored ring_buffer_prefill_longer_than_window sink_positions_not_reindexed sinks_evicted
    cache_not_reset_between_prompts quantised_scale_axis quantised_truncates quantised_twice
    paged_logical_used_as_physical paged_stale_tail paged_freed_block_reused
    rope_chunk_at_one_position rope_prompt_counted_twice rope_decoded_tokens_forgotten rope_query_after_append
    rope_pos_from_rows_kept learned_pos_restarts_at_0 learned_pos_off_by_one learned_pos_after_append
    learned_pos_chunk_at_one learned_pos_decoded_forgotten learned_pos_starts_elsewhere learned_pos_not_reset
    first_token_never_written quantised_not_at_all quantised_wrong_group
    unwritten_slots_read padding_attended decoded_rows_dropped context_length_before_step cache_rounded
    layer_input_is_embedding norm_skipped_once_cached alibi_zero_in_decode window_from_first_query
    window_from_last_query window_trimmed_late window_trimmed_by_capacity window_evicts_newest rows_written_early
""".split()  # noqa: SIM905


EDITS = """
    crop_keeps_one_too_many crop_zero_keeps_all crop_keeps_rows crop_keeps_positions ring_rolled_back fork_not_copied
    fork_shares_tail reorder_not_done reorder_inverted reorder_not_copied reorder_keys_only reorder_keeps_positions
""".split()  # noqa: SIM905
BUFFERS = ["newest_row_not_read", "one_length_for_all"]  # tests/testing/checks/test_buffers.py


def test_the_ids():
    assert set(BANK) == {*IDS, *EDITS, *BUFFERS}
    assert {id for id, mistake in BANK.items() if not mistake.variants} == set(BUFFERS)
    assert {id for id, mistake in BANK.items() if mistake.edits} == set(EDITS)
    assert len(IDS) == 78


@pytest.mark.parametrize("id", [*IDS, *EDITS, *BUFFERS])
def test_two_languages(id):
    mistake = BANK[id]
    assert mistake.en.isascii() or "·" in mistake.en
    assert any("一" <= c <= "鿿" for c in mistake.zh)
    assert mistake.sentence("zh") == mistake.zh
    assert mistake.sentence("en") == mistake.en


# Every implementation in float64; in the other dtypes the first one of some mistakes, and those under int8, which have
# exceptions. (`python -m tests.testing.confusion` has all in float64 and float32.)
SOME = {"float32": set(IDS[::2]), "float16": set(IDS[1::6]), "bfloat16": set(IDS[3::6])}
IN_DTYPES = [
    (m, cls, dtype) for m, cls in READINGS for dtype in LOST
    if dtype == "float64" or m.policy.startswith("int8")
    or (cls is m.variants[0] and m.id in SOME[dtype] and m.rope == "half")
]  # fmt: skip


# A third or later reading (outside float64 a second one) has the mark `dev`.
CASES = [
    case(
        m,
        cls,
        dtype,
        id=f"{m.id}-{cls.__name__}-{dtype}",
        dev=m.variants.index(cls) >= (2 if dtype == "float64" else 1),
    )
    for m, cls, dtype in IN_DTYPES
]


@pytest.mark.parametrize(("mistake", "reading", "dtype"), CASES)
def test_a_mistake_is_caught_and_diagnosed(mistake, reading, dtype):
    known = programme_of(mistake, dtype)
    lost = is_lost(mistake, reading, dtype)
    assert any(vote.fails for vote in known.votes(reading)) == (not lost)
    unnamed = lost or mistake.id in UNNAMED.get(dtype, ()) or reading.__name__ in BLANK
    if (reading.__name__, dtype) in ON_A_BOUNDARY:  # the order of a sum, so the kernel of BLAS, decides if it is named
        assert known.named(reading) in ((), (mistake.id,))
    else:
        assert known.named(reading) == (() if unnamed else (mistake.id,))


LOST_READINGS = [(dtype, m, cls) for dtype in LOST for m, cls in READINGS if is_lost(m, cls, dtype)]


@pytest.mark.parametrize(
    ("dtype", "mistake", "reading"), LOST_READINGS, ids=[f"{d}-{m.id}-{c.__name__}" for d, m, c in LOST_READINGS]
)
def test_mistakes_that_are_not_caught_are_below_rounding(dtype, mistake, reading):
    """In float64, they change logits by less than the tolerance for rounding in the dtype."""
    known = programme_of(mistake, dtype)
    made = known.suspects.run(mistake, reading, list(range(len(known.texts))))
    moved = max(np.abs(made[i] - known.expected[i]).max() for i in made)
    assert 0 < moved < known.allowed


@pytest.mark.parametrize("dtype", LOST)
@pytest.mark.parametrize("policy", sorted({m.policy for m in BANK.values()}))
def test_the_correct_decoder_is_accepted(policy, dtype):
    known = programme(policy, dtype)
    right = known.outputs(Decoder, dtype)
    assert all(equal(o, e, known.allowed) for o, e in zip(right, known.expected, strict=True))


EVERY = list(small_feeds(6))
BY_TOKENS = st.integers(1, 6).flatmap(lambda n: st.sampled_from([feed for feed in EVERY if sum(feed) == n]))
BY_CHUNKS = st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple).filter(lambda feed: sum(feed) <= 6)
SEARCH = settings(derandomize=True, database=None, max_examples=500)


@cache
def shows(id):
    """A function: does a feed, fed as two texts one after the other, show the mistake's first implementation?"""
    mistake = BANK[id]
    weights = make_weights(window=mistake.window, rope=mistake.rope)
    config, arrays = weights.config.to_config(), weights.to_weights()

    @cache
    def differs(feed):
        texts = [make_text(feed, n, weights.config.vocab) for n in (0, 1)]
        right, wrong = (
            run_decoder(cls, config, arrays, mistake.policy, texts) for cls in (Decoder, mistake.variants[0])
        )
        return not all(equal(w, r, 1e-9) for w, r in zip(wrong, right, strict=True))

    return differs


# One mistake for each kind of feed. test_there_is_no_smaller_feed covers every mistake.
SEARCHED = ["rope_pos_restarts_at_0", "mask_missing", "window_ignored", "cache_not_reset_between_prompts",
            "quantised_twice"]  # fmt: skip


@pytest.mark.parametrize("id", SEARCHED)
def test_hypothesis_finds_the_smallest_feed(id):
    """Shrinking first the number of tokens, then that of chunks: a smaller feed need not fail."""
    found = [find(feeds, shows(id), settings=SEARCH) for feeds in (BY_TOKENS, BY_CHUNKS)]
    assert min(found, key=EVERY.index) == BANK[id].smallest


@pytest.mark.parametrize("id", IDS)
def test_there_is_no_smaller_feed(id):
    assert next(feed for feed in EVERY if shows(id)(feed)) == BANK[id].smallest


def test_small_feeds_are_complete_and_sorted():
    found = list(small_feeds(4))
    assert len(found) == len(set(found)) == 1 + 2 + 4 + 8
    assert found[:4] == [(1,), (2,), (1, 1), (3,)]
    assert [sum(feed) for feed in found] == sorted(sum(feed) for feed in found)


def test_equal_is_false_for_nan():
    one, blank = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert equal(one, one + 1e-7, 1e-6)
    assert not equal(one, one + 1e-5, 1e-6)
    assert not equal(blank, one, 1e9)
    assert not equal(np.full(2, np.nan), np.full(2, np.nan), 1.0)


def test_an_unknown_mistake():
    with pytest.raises(UsageError, match="unknown mistake 'nothing': kvsim explain lists all"):
        find_mistake("nothing")
