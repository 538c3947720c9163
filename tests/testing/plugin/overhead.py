"""The time that kvsim adds to a pytest run without its fixture: `python tests/testing/plugin/overhead.py PYTEST KVSIM
[RUNS]`.

PYTEST and KVSIM are folders created by `pip install --target`; the Python that runs this must have neither package.
One empty test is run alternately without and with kvsim on the path, its modules not yet imported, and the medians of
processor time are compared. They include pytest's reading of the file list of every package with a plugin. The times
are printed and not asserted, since they depend on the machine; tests/testing/plugin/test_plugin.py asserts which
modules the plugin imports.
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
    """Processor time of one run of the test in this process, with `folder` on the path."""
    import pytest

    for name in [name for name in sys.modules if name.partition(".")[0] == "kvsim" or name == "test_nothing"]:
        del sys.modules[name]
    path = list(sys.path)
    sys.path += [folder] if folder else []
    importlib.invalidate_caches()
    output, started = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(output):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", test])
    taken = (time.process_time() - started) * 1000
    sys.path[:] = path
    assert code == 0, output.getvalue()
    assert ("kvsim.pytest_plugin" in sys.modules) == (folder is not None), "the plugin must be loaded from KVSIM alone"
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
    print(f"a run of one empty test: {without:.1f} ms, with kvsim {with_it:.1f} ms: {with_it - without:+.2f} ms")
    print(f"target: less than {AIM} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
