"""Parameter counts of a model, exact, by group.

A tied head is the token table, and an encoder that reads the same vocabulary (T5, BART) shares the decoder's token
table: one array, counted once. In a mixture of experts a token uses only the chosen experts: those are active.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from kvsim.blueprint import build_weights
from kvsim.config import Config, Experts
from kvsim.costs.bytes.kinds import reduce_config

GROUPS = ("embeddings", "attention", "feed_forward", "experts", "norms", "head")
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}  # per number
TABLES = ("tokens", "positions")  # a look-up reads one row for each token
_PARTS = {
    "embeddings": ("tokens", "positions", "project_in", "convolutions"),
    "attention": (
        "query", "key", "value", "output", "sinks", "buckets", "cross", "query_down", "latent", "expand",
    ),
    "feed_forward": ("gate", "up", "down"),
    "experts": ("router", "correction", "experts", "shared"),
    "head": ("head", "project_out"),
}  # fmt: skip
_GROUP = {part: group for group, parts in _PARTS.items() for part in parts}


class ArrayShape(NamedTuple):
    """One array of a model with one layer of each kind and one expert of each mixture, and how many arrays of the
    model it stands for."""

    name: str
    shape: tuple[int, ...]
    layers: int  # 1 for an array outside the layers
    experts: Experts | None  # of the mixture that the array is an expert's of

    @property
    def times(self) -> int:
        """Arrays of the model that it stands for."""
        return self.layers * (1 if self.experts is None else self.experts.count)

    @property
    def size(self) -> int:
        """Numbers in these arrays of all layers, of one expert of each."""
        return prod(self.shape) * self.layers

    @property
    def in_encoder(self) -> bool:
        """Whether the array belongs to the encoder."""
        return self.name.startswith("encoder.")

    @property
    def place(self) -> str:
        """The name without "encoder."."""
        return self.name.removeprefix("encoder.")


@dataclass(frozen=True)
class Parameters:
    """Parameter counts. The group "embeddings" has token and position tables and an audio encoder's convolutions;
    "head" has a head that is not tied to the token table."""

    groups: dict[str, int]  # in the order of GROUPS
    idle: int  # in the experts that a token does not use
    tables: int  # token and position tables alone

    def __repr__(self) -> str:
        return f"Parameters(total={self.total}, active={self.active})"

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.groups.values())

    @property
    def active(self) -> int:
        """Parameters that one token uses, the whole token table included."""
        return self.total - self.idle

    @property
    def without_embeddings(self) -> int:
        """All parameters outside the groups "embeddings" and "head"."""
        return self.total - self.groups["embeddings"] - self.groups["head"]

    @property
    def active_without_embeddings(self) -> int:
        """Active parameters outside the groups "embeddings" and "head"."""
        return self.without_embeddings - self.idle


def group_of(name: str) -> str:
    """The group (one of GROUPS) of the array `name` of `build_weights`. KeyError: an unknown array.

    >>> group_of("layers.3.cross.query.weight"), group_of("encoder.layers.0.ff_norm.gain")
    ('attention', 'norms')
    """
    parts = name.removeprefix("encoder.").split(".")
    if any(part.endswith("norm") for part in parts):
        return "norms"
    return _GROUP[parts[2 if parts[0] == "layers" else 0]]


def shares_tokens(config: Config) -> bool:
    """Whether encoder and decoder look up their tokens in one table."""
    encoder = config.encoder
    if encoder is None or encoder.audio is not None:
        return False
    tables = [(part.vocab_size, part.d_embedding or part.d_model) for part in (config, encoder)]
    return tables[0] == tables[1]


def list_shapes(config: Config) -> Iterator[ArrayShape]:
    """Every array of `config`, a shared one once; those of layers of one kind, and of the experts of a mixture,
    together."""
    kinds = reduce_config(config)
    found: list[tuple[str, tuple[int, ...]]] = []
    build_weights(kinds.config, lambda name, shape: found.append((name, shape)), one_expert=True)
    for name, shape in found:
        if name == "encoder.tokens" and shares_tokens(config):
            continue
        part = kinds.config.encoder if name.startswith("encoder.") else kinds.config
        assert part is not None
        words = name.removeprefix("encoder.").split(".")
        experts = part.layers[int(words[1])].experts if words[2:3] == ["experts"] else None
        yield ArrayShape(name, shape, kinds.times(name), experts)


def measure_parameters(config: Config) -> Parameters:
    """The parameter counts of `config`, in groups."""
    groups, idle, tables = dict.fromkeys(GROUPS, 0), 0, 0
    for array in list_shapes(config):
        groups[group_of(array.name)] += prod(array.shape) * array.times
        tables += array.size * (array.place in TABLES)
        if array.experts is not None:
            idle += array.size * (array.experts.count - array.experts.chosen)
    return Parameters(groups, idle, tables)


def count_parameters(config: Config) -> int:
    """Numbers in all arrays of `config`, shared arrays counted once."""
    return measure_parameters(config).total
