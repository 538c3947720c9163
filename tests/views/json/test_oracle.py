"""JSON has neither NaN nor infinity: a number that is neither is null."""

import json
import math

import pytest

from kvsim.schemas import dump
from kvsim.testing.feeds.references import allow
from kvsim.testing.subject.weights import Sizes
from kvsim.testing.tolerances import Tolerance
from kvsim.testing.verifying import WRONG, Found
from kvsim.views.json.oracle import tolerance_dict, verify_dict


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not(value):
    found = Found(WRONG, "wrong", "", "decoder", {"diagnosis": ["unknown"], "max_abs_diff": value, "allowed": value})
    told = json.loads(dump(verify_dict("a.py:b", 0, found)))
    assert (told["max_abs_diff"], told["allowed"]) == (None, None)
    measured = Tolerance(Sizes(), "float16", 8, value, value, value, allow("float16", value, value))
    told = json.loads(dump(tolerance_dict(measured, 0)))
    assert {told[key] for key in ("max_abs_logit", "emulated_error", "own_error", "error", "floor", "allowed")} == {
        None
    }


def test_a_target_is_split_at_its_last_colon():
    told = verify_dict("C:/mine.py:it", 1, Found(WRONG, "wrong"))
    assert (told["file"], told["name"], told["seed"], told["kind"]) == ("C:/mine.py", "it", 1, None)


def test_no_smallest_feed_was_found():
    found = Found(WRONG, "wrong", "", "attention", {"diagnosis": ["unknown"], "smallest": []})
    assert verify_dict("a.py:b", 0, found)["smallest"] is None


def test_bare_nan_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump({"value": math.nan})
