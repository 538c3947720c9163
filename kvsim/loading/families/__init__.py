"""Model families, one a file: how a config.json and its tensors' names map to kvsim's.

A family is a module with `config(facts) -> Config`, `tensor(name, config) -> Source` and `IGNORED`
(patterns of stored names that are no weights), and one line in `FAMILIES`.
"""

from importlib import import_module
from typing import NamedTuple, Protocol, cast

from kvsim.config import Config
from kvsim.loading.facts import Facts

FAMILIES = {"gpt2": "kvsim.loading.families.gpt2", "llama": "kvsim.loading.families.llama"}


class Source(NamedTuple):
    """Where an array of `kvsim.weights.build_weights` lies in a checkpoint.

    Where several arrays are fused side by side, `columns` = (start, stop, width): this one's part of
    the stored tensor's last axis, and how long that is. `transposed` if it is stored [in, out].
    """

    key: str
    transposed: bool = False
    columns: tuple[int, int, int] | None = None


class Family(Protocol):
    IGNORED: tuple[str, ...]

    def config(self, facts: Facts) -> Config: ...

    def tensor(self, name: str, config: Config) -> Source: ...


def get_family(model_type: str) -> Family:
    """The family of a config.json's `model_type`, one of `FAMILIES`."""
    return cast(Family, import_module(FAMILIES[model_type]))
