"""Where a model's arrays are stored in a checkpoint: their names, and which of them are fused."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from kvsim.config import Config

Take = Callable[[Any], Any]


class Source(NamedTuple):
    """One array of `kvsim.blueprint.build_weights` in a checkpoint.

    `stored` is the shape of the tensor `key` if it differs from the array's own, and `rows` the rows [start, stop) of
    it that are read, if not all; `take` makes the array from these rows, as a view if possible. `plus` is added after
    conversion to the model's dtype.
    """

    key: str
    stored: tuple[int, ...] | None = None
    take: Take | None = None
    plus: float = 0.0
    rows: tuple[int, int] | None = None


class Names(NamedTuple):
    """A family's names: `inside` of a layer, under `layers`.N, and `outside`.

    Keys are kvsim's names with or without their last part (weight, gain, bias); `*` stands for an expert's
    number.
    """

    layers: str
    inside: dict[str, str]
    outside: dict[str, str]

    def find(self, name: str) -> str:
        """The stored name of the array `name`."""
        layer = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
        table, place = (self.outside, name) if layer is None else (self.inside, layer[2])
        expert = re.search(r"\bexperts\.(\d+)\.", place)
        place = re.sub(r"\bexperts\.\d+\.", "experts.*.", place)
        part, _, kind = place.rpartition(".")
        found = table[place] if place in table else f"{table[part]}.{'bias' if kind == 'bias' else 'weight'}"
        if expert is not None:
            found = found.replace("*", expert[1])
        return found if layer is None else f"{self.layers}.{layer[1]}.{found}"


def is_part(name: str, *parts: str) -> str | None:
    """The one of `parts` that the array `name` belongs to: "query" for "layers.0.query.weight"."""
    part = name.split(".")[-2] if "." in name else ""
    return part if part in parts else None


def rows(key: str, start: int, stop: int, stored: tuple[int, ...]) -> Source:
    """Rows start:stop of a tensor in which several arrays are stacked."""
    return Source(key, stored, rows=(start, stop))


def fused_blocks(key: str, which: str, config: Config, bias: bool) -> Source:
    """Query, key or value of a tensor that stores all queries, then all keys, then all values."""
    q, kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
    start, stop = {"query": (0, q), "key": (q, q + kv), "value": (q + kv, q + 2 * kv)}[which]
    return rows(key, start, stop, (q + 2 * kv,) if bias else (q + 2 * kv, config.d_model))


def fused_groups(key: str, which: str, config: Config, bias: bool) -> Source:
    """The same for a tensor that stores, for each key/value head, its queries, its key and its value."""
    groups, per_group, size = config.n_kv_heads, config.n_heads // config.n_kv_heads, config.d_head
    part = {"query": slice(0, per_group), "key": slice(per_group, per_group + 1)}.get(which, slice(per_group + 1, None))
    width = () if bias else (config.d_model,)

    def take(tensor: Any) -> Any:
        split = tensor.reshape(groups, per_group + 2, size, *width)
        return split[:, part].reshape(-1, *width)

    return Source(key, (groups * (per_group + 2) * size, *width), take)
