"""Threads, hypothesis profiles, and the skipping of tests that need more than the extra `test`."""

import gc
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

# One pytest worker per processor, and one BLAS thread per worker. BLAS reads these variables when NumPy is imported.
assert "numpy" not in sys.modules, "NumPy was imported before the number of its threads was set"
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
gc.disable()  # until everything is collected: what is made until then stays
MOST_WORKERS = 8  # importing and collecting everything takes each worker a few seconds and some hundred megabytes

# The same examples in every run, on slow machines too. To search with others: --hypothesis-profile=random
settings.register_profile(
    "kvsim",
    deadline=None,
    print_blob=True,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("random", settings.get_profile("kvsim"), derandomize=False, max_examples=200)
settings.load_profile("kvsim")


def pytest_configure(config: pytest.Config) -> None:
    """Where the environment keeps Python from writing byte code, the processes that tests start share some in a folder
    of this run: a hundred of them would compile kvsim anew."""
    if "PYTHONDONTWRITEBYTECODE" not in os.environ:
        return
    if "KVSIM_TEST_BYTE_CODE" not in os.environ:  # in the first process, whose workers inherit it
        folder = os.environ["KVSIM_TEST_BYTE_CODE"] = tempfile.mkdtemp(prefix="kvsim-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        os.environ["PYTHONPYCACHEPREFIX"] = os.environ["KVSIM_TEST_BYTE_CODE"]
        del os.environ["PYTHONDONTWRITEBYTECODE"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-minutes", type=float, default=0, metavar="M", help="fuzz each target of tests/fuzz for M minutes"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """The number of workers for `-n auto`: the processors that this process may use, or None if the environment
    variable sets it."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, allowed)


def _missing() -> dict[str, tuple[str, ...]]:
    """{mark: requirements that are missing here}."""
    cupy = () if os.environ.get("CUPY_ON_HOST") else ("CuPy on the host: tests/cupy_on_host",)
    modules = {"dev": ("torch", "transformers", "matplotlib"), "browser": ("playwright", "axe_playwright_python")}
    missing = {mark: tuple(name for name in names if find_spec(name) is None) for mark, names in modules.items()}
    if find_chromium() is None:
        missing["browser"] += ("chromium",)
    return {**missing, "cupy": cupy}


def find_chromium() -> str | None:
    """The path of Chromium: KVSIM_CHROMIUM, or the system's."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("KVSIM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out marked tests whose requirements are missing; an error instead if KVSIM_REQUIRE_DEV,
    KVSIM_REQUIRE_BROWSER or KVSIM_REQUIRE_CUPY is set, as in CI."""
    absent = {mark: missing for mark, missing in _missing().items() if missing}
    for mark, missing in absent.items():
        if os.environ.get(f"KVSIM_REQUIRE_{mark.upper()}"):
            raise pytest.UsageError(f"KVSIM_REQUIRE_{mark.upper()} is set and this is missing: {', '.join(missing)}")
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        without = set(left_out)
        items[:] = [item for item in items if item not in without]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which tests were left out."""
    for mark, missing in _missing().items():
        if missing:
            terminalreporter.write_line(f"left out: tests marked {mark}, which need {', '.join(missing)}")


def pytest_collection_finish() -> None:
    """Leave out of every later garbage collection what stays to the end: two million objects, 8 % of the whole run."""
    gc.freeze()
    gc.enable()
