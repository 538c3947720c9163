"""kvsim: a reference simulator of KV caching in transformers.

One transformer in pure NumPy runs with and without a key/value cache and records every matrix
multiplication. `import kvsim` loads nothing, not even NumPy: each public name is imported when it
is first used (PEP 562).
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers treat this name as True; `import typing` would take time
if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsim import testing as testing
    from kvsim.comparisons.conversation import Conversation as Conversation
    from kvsim.comparisons.conversation_record import Turn as Turn
    from kvsim.comparisons.policies import compare as compare
    from kvsim.comparisons.policies_record import PolicyComparison as PolicyComparison
    from kvsim.comparisons.trace import trace as trace
    from kvsim.comparisons.trace_record import Trace as Trace
    from kvsim.config import Config as Config
    from kvsim.costs.work.cost import Cost as Cost
    from kvsim.costs.work.cost import cost as cost
    from kvsim.costs.work.counter import Count as Count
    from kvsim.costs.work.counter import count as count
    from kvsim.errors import BackendError as BackendError
    from kvsim.errors import FileError as FileError
    from kvsim.errors import KvsimError as KvsimError
    from kvsim.errors import OtherThreadsWarning as OtherThreadsWarning
    from kvsim.errors import UsageError as UsageError
    from kvsim.generation.generate import generate as generate
    from kvsim.generation.runs import Run as Run
    from kvsim.generation.runs import Step as Step
    from kvsim.loading.loader import load as load
    from kvsim.model import Model as Model

    _display: Callable[[object], dict[str, str]]  # see kvsim/schemas/display.py

_HOME = {
    "BackendError": "kvsim.errors",
    "Config": "kvsim.config",
    "Conversation": "kvsim.comparisons.conversation",
    "Cost": "kvsim.costs.work.cost",
    "Count": "kvsim.costs.work.counter",
    "FileError": "kvsim.errors",
    "KvsimError": "kvsim.errors",
    "Model": "kvsim.model",
    "OtherThreadsWarning": "kvsim.errors",
    "PolicyComparison": "kvsim.comparisons.policies_record",
    "Run": "kvsim.generation.runs",
    "Step": "kvsim.generation.runs",
    "Trace": "kvsim.comparisons.trace_record",
    "Turn": "kvsim.comparisons.conversation_record",
    "UsageError": "kvsim.errors",
    "compare": "kvsim.comparisons.policies",
    "cost": "kvsim.costs.work.cost",
    "count": "kvsim.costs.work.counter",
    "generate": "kvsim.generation.generate",
    "load": "kvsim.loading.loader",
    "trace": "kvsim.comparisons.trace",
}
_ROOMS = (
    "arrays",
    "benchmark",
    "caches",
    "cli",
    "comparisons",
    "costs",
    "counting",
    "doctor",
    "fast",
    "files",
    "generation",
    "i18n",
    "learn",
    "loading",
    "processes",
    "schemas",
    "testing",
    "transformer",
    "views",
)
__all__ = ["__version__", *_HOME]  # noqa: PLE0604 (every name of _HOME is a string)


def __getattr__(name: str) -> object:
    """A public name, or a room (`kvsim.testing`), imported when it is first used (PEP 562)."""
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "_display":  # see kvsim/schemas/display.py
        return import_module("kvsim.views.notebook").display
    if name in _ROOMS:
        return import_module(f"kvsim.{name}")
    raise AttributeError(f"module 'kvsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
