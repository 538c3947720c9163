"""Child processes: their output, their exit code, and that none of their children survives."""

import sys
import time

from kvsim.testing.subject.process import OUTPUT_LIMIT, run_process


def run(script, seconds=30.0):
    return run_process([sys.executable, "-c", script], seconds)


def test_what_it_prints_and_how_it_ends():
    done = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.code, done.out.strip(), done.err.strip()) == (3, "out", "err")


def test_there_is_no_input():
    assert run("import sys; print(repr(sys.stdin.read()))").out.strip() == "''"


def test_its_time_is_limited():
    started = time.monotonic()
    assert run("while True: pass", 0.5).code is None
    assert time.monotonic() - started < 10


def test_what_it_prints_is_kept_to_a_limit():
    done = run("while True: print('x' * 10000)", 1.0)
    assert done.code is None
    assert len(done.out) == OUTPUT_LIMIT


def test_what_it_has_started_is_ended(tmp_path):
    """A child would write a file after a while, and holds the pipe of its parent."""
    child = f"import time; time.sleep(2); open({str(tmp_path / 'alive')!r}, 'w')"
    started = time.monotonic()
    done = run(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); print('through')")
    assert (done.code, done.out.strip()) == (0, "through")
    time.sleep(max(0.0, 4.0 - (time.monotonic() - started)))
    assert not (tmp_path / "alive").exists()


def test_bytes_that_are_no_text():
    assert run("import sys; sys.stdout.buffer.write(b'a\\xff')").out == "a\ufffd"
