"""Child processes: their output, their exit code, and that none of their children survives."""

import os
import select
import sys

import pytest

from kvsim.testing.subject.process import OUTPUT_LIMIT, run_process


def run(script, seconds=300.0):
    return run_process([sys.executable, "-c", script], seconds)


def test_what_it_prints_and_how_it_ends():
    done = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.code, done.out.strip(), done.err.strip()) == (3, "out", "err")


def test_there_is_no_input():
    assert run("import sys; print(repr(sys.stdin.read()))").out.strip() == "''"


def test_its_time_is_limited():
    assert run("while True: pass", 0.5).code is None


def test_what_it_prints_is_kept_to_a_limit():
    done = run(f"import sys; sys.stdout.write('x' * {3 * OUTPUT_LIMIT} + 'end')")
    assert done.code == 0
    assert done.out == "x" * OUTPUT_LIMIT


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name")
def test_what_it_has_started_is_ended(tmp_path):
    """A child that would go on holds the pipe of its parent, and one of ours: that ends when the child does."""
    pipe, up = tmp_path / "pipe", tmp_path / "up"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import time; held = open({str(pipe)!r}, 'w'); open({str(up)!r}, 'w').close(); time.sleep(600)"
    done = run(
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"while not os.path.exists({str(up)!r}): time.sleep(0.01)\n"
        "print('through')\n"
    )
    assert (done.code, done.out.strip()) == (0, "through")
    assert select.select([reader], [], [], 60.0)[0]  # nobody holds it any more
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_bytes_that_are_no_text():
    assert run("import sys; sys.stdout.buffer.write(b'a\\xff')").out == "a\ufffd"
