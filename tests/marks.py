"""Which cases of a test README's command runs: the others have the mark `dev`, and CI runs them with the extra dev."""

from typing import Any

import pytest


def case(*values: Any, id: str, dev: bool) -> Any:
    """A case of a parametrised test. `dev`: README's command leaves it out, because others are enough there."""
    return pytest.param(*values, id=id, marks=[pytest.mark.dev] if dev else [])
