"""`kvsim learn` in a terminal: keys, and files that are saved."""

import os
import sys
import threading
import time
import types

import pytest

from kvsim.cli import learn_watch
from kvsim.i18n.language import words
from kvsim.learn import checking, watching
from kvsim.learn.folder import read_state, start
from kvsim.learn.watching import Event
from tests.learn.here import BY_ID, run_here
from tests.learn.pack import reference_of

pty = pytest.importorskip("pty")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    monkeypatch.setattr(checking.check, "__defaults__", (run_here, "float64"))
    monkeypatch.chdir(tmp_path)
    start(tmp_path, 3)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch):
    """A terminal as stdin; what is written to the descriptor is typed."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours, theirs
    os.close(ours)
    os.close(theirs)


def watched(monkeypatch, folder, *events):
    """`kvsim learn` with these events in place of a terminal's."""
    monkeypatch.setattr(learn_watch, "watch_events", lambda place: iter([*events, Event(key="q"), Event(key="l")]))
    assert learn_watch.watch(folder, words("en")) == 0


def test_keys_and_saved_files(folder, monkeypatch, capsys):
    keys = [Event(key=key) for key in "hh?"]
    later = [Event(key=key) for key in "nslr"]
    watched(monkeypatch, folder, *keys, Event(file="other.txt"), *later, Event(file="03_why_not_q.py"), Event(key="x"))
    out = capsys.readouterr().out
    assert out.startswith("# 01 Count the repeated work")
    assert "hint 2 of 3" in out
    assert "hint 3 of 3" not in out
    assert out.count("# 02 One step of attention") == 2  # n, s
    assert out.count("· 07 chunked_prefill") == 1
    assert out.count("02 attention_step   ") == 1  # r
    assert "why_not_q is as it was at the start" in out
    assert read_state(folder).hints == {"count_waste": 2}
    assert "press r" in out or watching.import_watch() is not None


def test_a_file_that_is_saved_is_checked(folder, monkeypatch, capsys):
    exercise = BY_ID["why_not_q"]
    (folder / "03_why_not_q.py").write_text(reference_of(exercise).read_text(encoding="utf-8"), encoding="utf-8")
    watched(monkeypatch, folder, Event(file="03_why_not_q.py"))
    assert "✓ passed" in capsys.readouterr().out
    assert read_state(folder).passed == ("why_not_q",)


def test_a_damaged_state_is_told_and_does_not_end_it(folder, monkeypatch, capsys):
    real = learn_watch.act

    def act(key, *more):
        (folder / ".kvsim-learn.json").write_text("{", encoding="utf-8")
        return real(key, *more)

    monkeypatch.setattr(learn_watch, "act", act)
    watched(monkeypatch, folder, Event(key="h"))
    assert "absent or damaged" in capsys.readouterr().out


def test_keys_come_without_enter_and_the_terminal_is_restored(terminal, tmp_path):
    import termios

    ours, theirs = terminal
    before = termios.tcgetattr(theirs)
    events = watching.watch_events(tmp_path)

    def type_keys():
        while termios.tcgetattr(theirs)[3] & termios.ICANON:
            time.sleep(0.01)
        os.write(ours, b"hn")

    threading.Thread(target=type_keys, daemon=True).start()
    assert [next(events), next(events)] == [Event(key="h"), Event(key="n")]
    assert not termios.tcgetattr(theirs)[3] & termios.ICANON
    events.close()
    assert termios.tcgetattr(theirs) == before


def test_saved_files_are_seen_by_watchfiles(terminal, tmp_path, monkeypatch):
    """A module in its place: what it yields is told, and it is stopped at the end."""
    ended = threading.Event()

    def watch(folder, *, stop_event, recursive, raise_interrupt):
        yield {("modified", str(folder / "a.py")), ("modified", str(folder / "b.py"))}
        stop_event.wait(60)
        ended.set()

    monkeypatch.setitem(sys.modules, "watchfiles", types.SimpleNamespace(watch=watch))
    events = watching.watch_events(tmp_path)
    assert [next(events), next(events)] == [Event(file="a.py"), Event(file="b.py")]
    events.close()
    assert ended.wait(60)
