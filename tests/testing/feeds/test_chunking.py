"""Feeds: longer than the window, repeated at the end, random texts that differ."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing.feeds.chunking import LONGEST, choose_feeds, cycle_chunks, equal_chunks, make_text


def test_feeds_are_longer_than_the_window_and_end_with_the_first():
    for window in (1, 4, 20, 60):
        config = testing.weights(window=window).config.to_config()
        found = choose_feeds(config, cases=3, seed=1)
        assert found[0] == found[-1]
        assert len(set(found)) == len(found) - 1
        assert all(0 < sum(feed) <= LONGEST for feed in found)
        assert any(sum(feed) > window for feed in found)
        assert any(len(feed) > 1 and feed[-2] > 1 for feed in found)  # a chunk of several tokens after others
    assert choose_feeds(testing.weights().config.to_config())[:2] == [(3, 3, 1), (7,)]
    assert equal_chunks(7, 2) == (2, 2, 2, 1)
    assert equal_chunks(6, 2) == (2, 2, 2)


# The tokens of all feeds of a check before there were second turns and texts of more than 32 rows.
BEFORE = {"dynamic": 59, "sinks:1+3": 59, "paged:2": 59, "int8:group=2,residual=1": 68, "window:3": 59, "paged:16": 311}
BEFORE_WINDOWED = {1: 66, 2: 68, 4: 72, 8: 116, 20: 248, 32: 311, 60: 451}


def config_of(window=None):
    return testing.weights(window=window).config.to_config()


@pytest.mark.parametrize(("config", "policy", "before"), [
    *[(config_of(), *item) for item in BEFORE.items()],
    *[(config_of(window), "dynamic", before) for window, before in BEFORE_WINDOWED.items()],
])  # fmt: skip
def test_feeds_that_real_mistakes_need_have_at_most_a_third_more_tokens(config, policy, before):
    found = choose_feeds(config, policy)
    assert sum(map(sum, found)) <= 1.3 * before
    threes = [steps for feed in found for steps in zip(feed, feed[1:], feed[2:], strict=False)]
    assert any(a > 1 and b == 1 and c > 1 for a, b, c in threes)  # a second turn
    assert policy.startswith("int8") or any(sum(feed) > 32 for feed in found)


def test_more_of_them():
    assert {(1, 5), (3, 6)} < set(choose_feeds(config_of(4)))  # chunks longer than the window after cached rows
    assert sum(choose_feeds(config_of(), length=50)[-2]) == 50


def test_the_long_feed():
    assert cycle_chunks(9) == (2, 3, 1, 1, 2)
    ends = list(np.cumsum(cycle_chunks(35)))
    assert 16 in ends
    assert 32 not in ends


def test_texts_differ():
    one, other = make_text((3, 1), 0, 31), make_text((3, 1), 1, 31)
    assert one != other
    assert [len(chunk) for chunk in one] == [3, 1]
    assert one == make_text((3, 1), 0, 31)
