"""The progress bar: only on a terminal, only after a while, and erased."""

import io
from types import SimpleNamespace

import pytest

from kvsim.testing.feeds import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setenv("KVSIM_LANG", "en")
    monkeypatch.setattr(progress, "WAIT", 0.0)
    return stream


def test_it_counts_and_is_erased(terminal):
    assert list(progress.track("abcd", "texts")) == list("abcd")
    assert "\x1b[2Ktexts fed [############............] 2/4" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_it_is_erased_where_the_check_ends_early(terminal):
    for item in progress.track("abcd", "mistakes"):
        if item == "b":
            break
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_it_is_erased_where_a_step_raises(terminal):
    def fail():
        return [1 / (ord(item) - ord("c")) for item in progress.track("abcd", "rounding")]

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "rounding measured [" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_nothing_is_written_early_or_to_a_file(terminal, monkeypatch):
    monkeypatch.setattr(progress, "WAIT", 1e9)
    assert list(progress.track("ab", "texts")) == ["a", "b"]
    monkeypatch.setattr(progress, "WAIT", 0.0)
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
        assert list(progress.track("ab", "texts")) == ["a", "b"]
        assert not (stream and stream.getvalue())
    assert terminal.getvalue() == ""
