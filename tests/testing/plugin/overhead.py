"""What kvsim adds to a pytest run that does not use it: `python tests/testing/plugin/overhead.py PYTEST KVSIM [RUNS]`.

PYTEST and KVSIM are folders with what `pip install --target` put there; the Python that runs this must have neither.
One test that does nothing is run by turns without and with kvsim on the path, its modules not yet loaded; the medians
of processor time are compared. pytest reads the list of files of every package with a plugin: that is in it. Printed
and not held: a time depends on the machine, and what the plugin imports is held by tests/testing/plugin/test_plugin.py.
"""

import contextlib
import importlib
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

AIM = 5.0  # ms


def milliseconds(test, folder=None):
    """One run of the test in this process, with the folder on the path."""
    import pytest

    for name in [name for name in sys.modules if name.partition(".")[0] == "kvsim" or name == "test_nothing"]:
        del sys.modules[name]
    path = list(sys.path)
    sys.path += [folder] if folder else []
    importlib.invalidate_caches()
    said, started = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", test])
    taken = (time.process_time() - started) * 1000
    sys.path[:] = path
    assert code == 0, said.getvalue()
    assert ("kvsim.pytest_plugin" in sys.modules) == (folder is not None), "kvsim is where it should not be, or not"
    return taken


def main(pytest, kvsim, runs="50"):
    sys.path.insert(0, os.path.abspath(pytest))
    with tempfile.TemporaryDirectory() as place:
        test = Path(place) / "test_nothing.py"
        test.write_text("def test_nothing():\n    pass\n", encoding="utf-8")
        pairs = [
            (milliseconds(str(test)), milliseconds(str(test), os.path.abspath(kvsim))) for _ in range(int(runs) + 3)
        ][3:]
    without, with_it = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"a run that does nothing: {without:.1f} ms, with kvsim {with_it:.1f} ms: {with_it - without:+.2f} ms")
    print(f"wanted: less than {AIM} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
