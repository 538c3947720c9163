"""The public names of `kvsim.testing`: imported lazily, listed by dir(), and their objects print as one short line."""

import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

from kvsim import testing

NAMES = {
    "Case", "ModelWeights", "OracleError", "assert_attention", "assert_cache_rows", "assert_close_to", "assert_cost",
    "assert_edits", "assert_policy", "assert_quantiser", "assert_split_invariant", "attention", "cases", "weights",
}  # fmt: skip


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_dir_lists_the_public_names():
    assert set(dir(testing)) == set(testing.__all__) == NAMES
    with pytest.raises(AttributeError, match=r"module 'kvsim.testing' has no attribute 'nothing'"):
        _ = testing.nothing


def test_importing_it_loads_nothing():
    code = (
        "import sys; before = set(sys.modules); import kvsim.testing; dir(kvsim.testing);"
        " print(*sorted(set(sys.modules) - before))"
    )
    assert run(code) == ["kvsim", "kvsim.testing"]


@pytest.mark.parametrize(
    "before", ["", "import kvsim.testing.feeds.plain_attention; import kvsim.testing.checks.attention;"]
)
def test_attention_is_a_function_whatever_was_imported_before(before):
    assert run(f"{before}import kvsim.testing; print(type(kvsim.testing.attention).__name__)") == ["function"]


def test_no_module_has_the_name_of_a_public_function():
    """Importing the module would replace the function."""
    modules = {module.name for module in pkgutil.iter_modules(testing.__path__)}
    assert len(modules) > 8
    assert not modules & NAMES
    for module in modules:
        importlib.import_module(f"kvsim.testing.{module}")
    assert not any(isinstance(getattr(testing, name), type(testing)) for name in NAMES)


def one_line(x):
    text = repr(x)
    return "\n" not in text and len(text) <= 200


def failure_of(check):
    with pytest.raises(testing.OracleError) as caught:
        check()
    return caught.value


def test_objects_print_as_one_short_line():
    from kvsim.testing.tolerances import measure_tolerance
    from kvsim.testing.verifying import WRONG, Found

    q = np.ones((1, 2, 50, 4))
    error = failure_of(lambda: testing.assert_attention(lambda q, k, v: q * np.pi, kv_heads=4))
    other = failure_of(lambda: testing.assert_attention(lambda q, k, v: 1 / 0))
    quantiser = failure_of(lambda: testing.assert_quantiser(lambda x: x, lambda x: 3 * x))
    for x in (
        testing.attention(q, q, q), testing.cases()[0], error, error.failure, error.failure.diagnosis, other,
        other.failure, quantiser, Found(WRONG, "x\n" * 500), measure_tolerance("float16", 8).allowed,
    ):  # fmt: skip
        assert one_line(x), repr(x)
    assert repr(testing.attention(q, q, q)).startswith("Result(output [1, 2, 50, 4], keys [1, 2, 50, 4]")
    assert repr(error.failure.diagnosis) == "Diagnosis(unknown, 8 of 8 feeds fail)"
