"""Every step that can have a program has one at once."""

import pytest

from kvsim.replay import replays


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(replays, "RECORD_AFTER", 0)
