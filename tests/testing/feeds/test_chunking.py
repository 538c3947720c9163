"""Feeds: longer than the window, repeated at the end, random texts that differ."""

from kvsim import testing
from kvsim.testing.feeds.chunking import LONGEST, choose_feeds, equal_chunks, make_text


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


def test_texts_differ():
    one, other = make_text((3, 1), 0, 31), make_text((3, 1), 1, 31)
    assert one != other
    assert [len(chunk) for chunk in one] == [3, 1]
    assert one == make_text((3, 1), 0, 31)
