"""What each step feeds, and the limits checked before anything runs."""

import pytest

from kvsim.errors import UsageError
from kvsim.generation.plan import check_room, parse_feed, plan_stops
from tests.models import PRIMES, make_model


@pytest.mark.parametrize(
    ("feed", "stops"),
    [
        ("token", [1, 2, 3, 4, 5, 6, 7]),
        ("prefill", [5, 6, 7]),
        ("chunk:2", [2, 4, 5, 6, 7]),
        ("chunk:5", [5, 6, 7]),
        ("chunk:99", [5, 6, 7]),
    ],
)
def test_plan(feed, stops):
    assert plan_stops(5, 3, feed) == stops


@pytest.mark.parametrize("feed", ["", "tokens", "chunk", "chunk:", "chunk:0", "chunk:-1", "chunk:x", "prefill:3"])
def test_wrong_feed(feed):
    with pytest.raises(UsageError, match="unknown feed"):
        parse_feed(feed)


def test_room_in_the_model_and_in_every_cache():
    model = make_model(PRIMES)
    caches = [model.new_cache("dynamic"), model.new_cache("static:8")]
    check_room(model, caches, 5, 4)  # the last new token is not fed: 8 tokens
    with pytest.raises(UsageError, match="static cache holds 8 tokens, asked for 9"):
        check_room(model, caches, 5, 5)
    with pytest.raises(UsageError, match="has a context of"):
        check_room(model, [], PRIMES.max_context, 2)
    check_room(model, [], PRIMES.max_context, 1)
