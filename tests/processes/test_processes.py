"""Child processes: frames, what is kept of their output, and that nothing of them survives."""

import io
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvsim.processes.channel import Channel, FrameError
from kvsim.processes.child import end_child, start_child
from kvsim.processes.marked import kill_marked
from kvsim.processes.output import OUTPUT_LIMIT, Output


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    yield Channel(one), other
    one.close()
    other.close()


def test_frames(ends):
    channel, other = ends
    for data in (b"", b"a", bytes(100_000)):
        Channel(other).send(data)
        assert channel.receive(100_000) == data


@pytest.mark.parametrize("sent", [
    b"\x02", (2**60).to_bytes(8, "little"), (9).to_bytes(8, "little") + bytes(9), (8).to_bytes(8, "little") + b"abc",
])  # fmt: skip
def test_frames_that_are_none(sent, ends):
    channel, other = ends
    other.sendall(sent)
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(FrameError):
        channel.receive(8)


def test_the_end_and_the_time_limit(ends):
    channel, other = ends
    channel.until = time.monotonic() + 0.01
    with pytest.raises(TimeoutError):
        channel.receive(8)
    channel.until = None
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        channel.receive(8)


def test_output_is_kept_to_a_limit():
    assert Output(io.BytesIO(b"a\xff" + OUTPUT_LIMIT * b"x")).text() == "a\ufffd" + (OUTPUT_LIMIT - 2) * "x"


def test_a_child_finds_this_kvsim_and_nothing_in_the_working_directory(tmp_path, monkeypatch):
    """The module calls `main` only once it has imported json, re and socket."""
    for name in ("json", "re", "socket", "kvsim"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    child = start_child("kvsim.loading.tokenizers.library", stderr=subprocess.PIPE)
    child.channel.send(b"{")
    answer = child.channel.receive(1000)
    assert b"failed" in answer
    assert b"shadowed" not in answer
    errors = child.process.stderr.read()
    assert end_child(child) in (0, -9)
    assert errors == b""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_with_a_mark_are_ended():
    value = os.urandom(16).hex()
    mark = f"KVSIM_TEST_MARK={value}"
    one = subprocess.Popen(["/bin/sleep", "600"], env={"KVSIM_TEST_MARK": value}, start_new_session=True)
    other = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    while mark.encode() not in Path(f"/proc/{one.pid}/environ").read_bytes():
        time.sleep(0.01)
    kill_marked(mark)
    assert one.wait(60.0) == -9
    assert other.poll() is None
    other.kill()
    other.wait()


def test_an_empty_mark_ends_no_process(monkeypatch):
    """It is part of every environment, of every process of the user."""
    monkeypatch.setattr("os.kill", lambda *given: pytest.fail(f"killed {given}"))
    monkeypatch.setattr("kvsim.processes.marked._find", lambda mark: pytest.fail("looked for"))
    for mark in ("", "KVSIM_VERIFY="):
        with pytest.raises(ValueError, match="a mark of"):
            kill_marked(mark)
