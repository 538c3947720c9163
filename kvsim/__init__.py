"""kvsim: a reference simulator of KV caching in transformers.

One transformer in pure NumPy runs with and without a key/value cache and records every matrix
multiplication. `import kvsim` loads nothing, not even NumPy: each public name is imported when it
is first used (PEP 562).
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # what type checkers read as true; `import typing` is not free
if TYPE_CHECKING:
    from kvsim.config import Config as Config
    from kvsim.conversation import Conversation as Conversation
    from kvsim.conversation import Turn as Turn
    from kvsim.costs.cost import Cost as Cost
    from kvsim.costs.cost import cost as cost
    from kvsim.costs.counter import Count as Count
    from kvsim.costs.counter import count as count
    from kvsim.errors import BackendError as BackendError
    from kvsim.errors import FileError as FileError
    from kvsim.errors import KvsimError as KvsimError
    from kvsim.errors import UsageError as UsageError
    from kvsim.generation import generate as generate
    from kvsim.loading.loader import load as load
    from kvsim.model import Model as Model
    from kvsim.policy_comparison import compare as compare
    from kvsim.policy_runs import PolicyComparison as PolicyComparison
    from kvsim.runs import Run as Run
    from kvsim.runs import Step as Step
    from kvsim.traces import Trace as Trace
    from kvsim.tracing import trace as trace

_HOME = {
    "BackendError": "kvsim.errors",
    "Config": "kvsim.config",
    "Conversation": "kvsim.conversation",
    "Cost": "kvsim.costs.cost",
    "Count": "kvsim.costs.counter",
    "FileError": "kvsim.errors",
    "KvsimError": "kvsim.errors",
    "Model": "kvsim.model",
    "PolicyComparison": "kvsim.policy_runs",
    "Run": "kvsim.runs",
    "Step": "kvsim.runs",
    "Trace": "kvsim.traces",
    "Turn": "kvsim.conversation",
    "UsageError": "kvsim.errors",
    "compare": "kvsim.policy_comparison",
    "cost": "kvsim.costs.cost",
    "count": "kvsim.costs.counter",
    "generate": "kvsim.generation",
    "load": "kvsim.loading.loader",
    "trace": "kvsim.tracing",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604 (every name of _HOME is a string)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kvsim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
