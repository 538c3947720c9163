"""The oracle for other people's tests: checks of attention functions, caches and decoders that name the mistake.

In pytest, the fixture `kv_oracle` has the same functions. `attention` is the transformer's own, with every option of
the ONNX operator Attention. Each public name is imported when it is first used (PEP 562): `import kvsim.testing` loads
nothing, not even NumPy.
"""

TYPE_CHECKING = False  # what type checkers read as true; `import typing` is not free
if TYPE_CHECKING:
    from kvsim.testing.checks.attention import assert_attention as assert_attention
    from kvsim.testing.checks.cases import Case as Case
    from kvsim.testing.checks.cases import cases as cases
    from kvsim.testing.checks.costs import assert_cost as assert_cost
    from kvsim.testing.checks.decoders import assert_close_to as assert_close_to
    from kvsim.testing.checks.decoders import assert_policy as assert_policy
    from kvsim.testing.checks.decoders import assert_split_invariant as assert_split_invariant
    from kvsim.testing.checks.edits import assert_edits as assert_edits
    from kvsim.testing.checks.quantisers import assert_quantiser as assert_quantiser
    from kvsim.testing.checks.rows import assert_cache_rows as assert_cache_rows
    from kvsim.testing.feeds.plain_attention import attention as attention
    from kvsim.testing.subject.weights import ModelWeights as ModelWeights
    from kvsim.testing.subject.weights import make_weights as weights  # noqa: F401 (public)
    from kvsim.testing.verdict.error import OracleError as OracleError

_HOME = {  # public name: its module, and its name there
    "Case": ("checks.cases", "Case"),
    "ModelWeights": ("subject.weights", "ModelWeights"),
    "OracleError": ("verdict.error", "OracleError"),
    "assert_attention": ("checks.attention", "assert_attention"),
    "assert_cache_rows": ("checks.rows", "assert_cache_rows"),
    "assert_close_to": ("checks.decoders", "assert_close_to"),
    "assert_cost": ("checks.costs", "assert_cost"),
    "assert_edits": ("checks.edits", "assert_edits"),
    "assert_policy": ("checks.decoders", "assert_policy"),
    "assert_quantiser": ("checks.quantisers", "assert_quantiser"),
    "assert_split_invariant": ("checks.decoders", "assert_split_invariant"),
    "attention": ("feeds.plain_attention", "attention"),
    "cases": ("checks.cases", "cases"),
    "weights": ("subject.weights", "make_weights"),
}
__all__ = [*_HOME]  # noqa: PLE0604 (every name of _HOME is a string)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kvsim.testing' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOME[name]
    return getattr(import_module(f"kvsim.testing.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
