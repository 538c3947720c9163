"""Mistakes of a cache policy are diagnosed against kvsim's run under that policy."""

import pytest

from kvsim.testing.bank import BANK
from kvsim.testing.explaining import ExplainOptions, show_mistake

OWN = [id for id, mistake in BANK.items() if mistake.policy != "dynamic"]


def test_the_policies_with_mistakes():
    assert {BANK[id].policy.partition(":")[0] for id in OWN} >= {"sinks", "int8", "paged"}


@pytest.mark.parametrize("id", OWN)
def test_it_is_diagnosed(id):
    """In one layer: each policy's suspects are run on its own texts."""
    assert f"[{id}]" in show_mistake(BANK[id], ExplainOptions(layers=1))
