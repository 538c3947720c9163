"""How many numbers a model's arrays hold, exact to the last one, by what they are for.

A tied head is the token table, and so is the token table of an encoder that reads the same vocabulary (T5, BART): one
array, counted once. Of a mixture of experts a token goes through some only: those parameters are active.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from kvsim.blueprint import build_weights
from kvsim.config import Config

GROUPS = ("embeddings", "attention", "feed_forward", "experts", "norms", "head")
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}  # of a number
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


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers. Embeddings are token and position tables, and what makes vectors of sound; the head is what
    is not tied to them."""

    groups: dict[str, int]  # in the order of GROUPS
    idle: int  # in experts that a token does not go through

    @property
    def total(self) -> int:
        """All."""
        return sum(self.groups.values())

    @property
    def active(self) -> int:
        """Those that a token meets, the whole token table included."""
        return self.total - self.idle

    @property
    def without_embeddings(self) -> int:
        """All but embeddings and head."""
        return self.total - self.groups["embeddings"] - self.groups["head"]

    @property
    def active_without_embeddings(self) -> int:
        """Active ones but embeddings and head."""
        return self.without_embeddings - self.idle


def group_of(name: str) -> str:
    """What the array `name` of `build_weights` is for: one of GROUPS. KeyError: an array that this does not know.

    >>> group_of("layers.3.cross.query.weight"), group_of("encoder.layers.0.ff_norm.gain")
    ('attention', 'norms')
    """
    parts = name.removeprefix("encoder.").split(".")
    if any(part.endswith("norm") for part in parts):
        return "norms"
    return _GROUP[parts[2 if parts[0] == "layers" else 0]]


def shares_tokens(config: Config) -> bool:
    """Do encoder and decoder look up their tokens in one table?"""
    encoder = config.encoder
    if encoder is None or encoder.audio is not None:
        return False
    tables = [(part.vocab_size, part.d_embedding or part.d_model) for part in (config, encoder)]
    return tables[0] == tables[1]


def _reduce(config: Config) -> tuple[Config, tuple[int, ...]]:
    """One layer of each kind, and how many there are of each."""
    kinds = Counter(config.layers)
    return replace(config, layers=tuple(kinds), n_layers=len(kinds)), tuple(kinds.values())


def list_shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name in a model with one layer of each kind, shape of the array, how many layers have one like it."""
    small, times = _reduce(config)
    encoder_times: tuple[int, ...] = ()
    if config.encoder is not None:
        encoder, encoder_times = _reduce(config.encoder)
        small = replace(small, encoder=encoder)
    found: list[tuple[str, tuple[int, ...]]] = []
    build_weights(small, lambda name, shape: found.append((name, shape)))
    for name, shape in found:
        stack, _, place = name.rpartition("layers.")
        if name == "encoder.tokens" and shares_tokens(config):
            continue
        layer = int(place.partition(".")[0]) if "layers." in name else -1
        yield name, shape, 1 if layer < 0 else (encoder_times if stack else times)[layer]


def list_arrays(config: Config) -> Iterator[tuple[str, int, int]]:
    """The same with the numbers in the array for its shape."""
    for name, shape, times in list_shapes(config):
        yield name, prod(shape), times


def measure_parameters(config: Config) -> Parameters:
    """All arrays of `config`, in groups."""
    groups, idle = dict.fromkeys(GROUPS, 0), 0
    kinds = tuple(Counter(config.layers))
    for name, count, times in list_arrays(config):
        groups[group_of(name)] += count * times
        parts = name.split(".")
        if parts[2:3] == ["experts"]:
            experts = kinds[int(parts[1])].experts
            assert experts is not None
            # All are the same size: those that sit out are the last ones of each array's kind.
            idle += count * times * (int(parts[3]) >= experts.chosen)
    return Parameters(groups, idle)


def count_parameters(config: Config) -> int:
    """Numbers in all arrays, none of them twice."""
    return measure_parameters(config).total
