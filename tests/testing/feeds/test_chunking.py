"""Feeds: longer than the window, repeated at the end, random texts that differ."""

import numpy as np

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


BEFORE = {"dynamic": 59, "sinks:1+3": 59, "paged:2": 59, "int8:group=2,residual=1": 68, "window:3": 59, "paged:16": 311}
# tokens of all feeds of a check, before there were second turns and texts of more than 32 rows


def test_feeds_that_real_mistakes_need_at_most_a_third_more_tokens_than_before():
    plain, windowed = (testing.weights(window=window).config.to_config() for window in (None, 4))
    for config, policy, before in [(plain, *item) for item in BEFORE.items()] + [(windowed, "dynamic", 72)]:
        found = choose_feeds(config, policy)
        assert sum(map(sum, found)) <= 1.3 * before
        assert any(
            a > 1 and b == 1 and c > 1 for feed in found for a, b, c in zip(feed, feed[1:], feed[2:], strict=False)
        )
        if not policy.startswith("int8"):
            assert any(sum(feed) > 32 for feed in found)
    assert (1, 5) in choose_feeds(windowed)  # a chunk longer than the window after a cached row
    assert sum(choose_feeds(plain, length=50)[-2]) == 50


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
