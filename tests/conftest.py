"""What all tests share: a hypothesis profile, and the marks of tests that need more than the extra `test`."""

import os
from importlib.util import find_spec

import pytest
from hypothesis import settings

settings.register_profile("kvsim", deadline=None, print_blob=True)
settings.load_profile("kvsim")


def _missing() -> dict[str, tuple[str, ...]]:
    """For each mark what it needs and is not here."""
    cupy = () if os.environ.get("CUPY_ON_HOST") else ("CuPy on the host: tests/cupy_on_host",)
    return {"dev": tuple(name for name in ("torch", "transformers") if find_spec(name) is None), "cupy": cupy}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip marked tests where what they need is missing; in CI, where they must run (KVSIM_REQUIRE_DEV,
    KVSIM_REQUIRE_CUPY), never."""
    for mark, missing in _missing().items():
        if not missing:
            continue
        if os.environ.get(f"KVSIM_REQUIRE_{mark.upper()}"):
            raise pytest.UsageError(f"KVSIM_REQUIRE_{mark.upper()} is set and this is missing: {', '.join(missing)}")
        skip = pytest.mark.skip(reason=f"needs {', '.join(missing)}")
        for item in items:
            if item.get_closest_marker(mark):
                item.add_marker(skip)
