"""What all tests share: a hypothesis profile, and the mark of tests that need the extra `dev`."""

import os
from importlib.util import find_spec

import pytest
from hypothesis import settings

settings.register_profile("kvsim", deadline=None, print_blob=True)
settings.load_profile("kvsim")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `dev` where torch or transformers is missing; in CI, where they must run, never."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if not missing:
        return
    if os.environ.get("KVSIM_REQUIRE_DEV"):
        raise pytest.UsageError(f"KVSIM_REQUIRE_DEV is set and {', '.join(missing)} cannot be imported")
    skip = pytest.mark.skip(reason=f"needs the extra dev ({', '.join(missing)})")
    for item in items:
        if item.get_closest_marker("dev"):
            item.add_marker(skip)
