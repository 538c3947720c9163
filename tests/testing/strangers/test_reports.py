"""Re-enacted bug reports, and the same mistakes in another style, are caught by the default feeds and named, and the
right ones are accepted."""

import re
from pathlib import Path

import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from tests.testing.strangers import numpy_mistakes, reports

SOURCE = Path(reports.__file__).read_text(encoding="utf-8")
MISTAKES = re.findall(
    r"^class (\w+)\(.*# expect: (\w+)$", Path(numpy_mistakes.__file__).read_text(encoding="utf-8"), re.MULTILINE
)
REPORTS = re.findall(r"^class (\w+)\(.*# report: (\S*): (\w+)$", SOURCE, re.MULTILINE)


def weights_for(id):
    """Of the kind of model in which the mistake can be made."""
    return testing.weights(rope=BANK[id].rope, window=4 if BANK[id].rope == "half" else None)


def check(cls, weights):
    testing.assert_split_invariant(lambda: cls(weights), lambda m, ids: m.forward(ids), weights)


@pytest.mark.parametrize("rope", ["half", "learned", "alibi"])
def test_the_engine_is_right(rope):
    check(reports.Engine, testing.weights(rope=rope, window=4 if rope == "half" else None))


@pytest.mark.parametrize(("name", "report", "id"), REPORTS, ids=[name for name, *_ in REPORTS])
def test_a_report_is_caught_and_named(name, report, id):
    with pytest.raises(OracleError) as caught:
        check(getattr(reports, name), weights_for(id))
    assert caught.value.facts["diagnosis"] == [id]
    assert report in BANK[id].twin


@pytest.mark.parametrize(("cls", "rope"), [(numpy_mistakes.Learned, "learned"), (numpy_mistakes.Alibi, "alibi")])
def test_the_bases_are_right(cls, rope):
    check(cls, testing.weights(rope=rope))


@pytest.mark.parametrize(("name", "id"), MISTAKES, ids=[name for name, _ in MISTAKES])
def test_the_same_mistakes_in_another_style(name, id):
    with pytest.raises(OracleError) as caught:
        check(getattr(numpy_mistakes, name), weights_for(id))
    assert caught.value.facts["diagnosis"] == [id]
