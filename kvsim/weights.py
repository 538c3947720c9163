"""A model's arrays, in the order in which they are used: frozen records, and three functions that walk any of them.

Matrices are [out, in], as Hugging Face's Linear keeps them. `kvsim.blueprint` has all names and shapes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from kvsim.errors import UsageError

Array = Any  # an array of any library

# eq=False, repr=False: records of arrays are never compared or printed, and generating the methods costs import time.


@dataclass(frozen=True, eq=False, repr=False)
class Linear:
    weight: Array  # [out, in]
    bias: Array | None = None  # [out]


@dataclass(frozen=True, eq=False, repr=False)
class Norm:
    gain: Array | None  # [D]
    bias: Array | None = None  # [D], LayerNorm only


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    query: Linear  # [H·K, D]
    key: Linear  # [G·K, D]
    value: Linear  # [G·K, D]
    output: Linear  # [D, H·K]
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    sinks: Array | None = None  # [H]


@dataclass(frozen=True, eq=False, repr=False)
class LatentAttention:
    """Letters: L rank of the latent, C rank of the queries' latent, B elements without position, P rotary ones."""

    query_down: Linear | None  # [C, D]
    query_norm: Norm | None  # [C]
    query: Linear  # [H·(B+P), C] or [H·(B+P), D]
    latent: Linear  # [L+P, D]: the latent and the shared rotary key
    latent_norm: Norm  # [L]
    expand: Linear  # [H·(B+K), L]: for each head its key without position and its value
    output: Linear  # [D, H·K]


@dataclass(frozen=True, eq=False, repr=False)
class FeedForward:
    gate: Linear | None  # [F, D]
    up: Linear  # [F, D]
    down: Linear  # [D, F]


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    router: Linear  # [E, D]
    correction: Array | None  # [E]
    experts: tuple[FeedForward, ...]
    shared: FeedForward | None


@dataclass(frozen=True, eq=False, repr=False)
class Half:
    """The norms of one half of a layer: of its input, of its output, of the sum with the residual."""

    before: Norm | None = None
    branch: Norm | None = None
    total: Norm | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    attention_norms: Half
    attention: Attention | LatentAttention
    cross_norms: Half | None
    cross: Attention | None
    ff_norms: Half
    ff: FeedForward | Mixture


@dataclass(frozen=True, eq=False, repr=False)
class Convolution:
    weight: Array  # [out, in·3], the kernel innermost
    bias: Array  # [out]


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """A stack of layers with its embeddings and head."""

    tokens: Array | None  # [V, D]; None for an audio encoder
    positions: Array | None  # [max_context, D], learned positions only
    project_in: Linear | None
    embedding_norm: Norm | None
    convolutions: tuple[Convolution, ...]
    buckets: Array | None  # [buckets, H]
    layers: tuple[Layer, ...]
    final_norm: Norm | None
    project_out: Linear | None
    head: Linear | None  # [V, D]; the same array as `tokens` if the head is tied; None for an encoder
    encoder: "Weights | None" = None


def map_arrays(record: Any, change: Callable[[Array], Array]) -> Any:
    """A copy of `record` in which `change` has replaced every array. An array that stands in two places (a tied head)
    is changed once and stays one array."""
    changed: dict[int, Array] = {}

    def walk(part: Any) -> Any:
        if is_dataclass(part) and not isinstance(part, type):
            return replace(part, **{f.name: walk(getattr(part, f.name)) for f in fields(part)})
        if isinstance(part, tuple):
            return tuple(walk(one) for one in part)
        if part is None:
            return None
        if id(part) not in changed:
            changed[id(part)] = change(part)
        return changed[id(part)]

    return walk(record)


def list_arrays(record: Any) -> Iterator[Array]:
    """Every array of a record, in the order of its fields."""
    if is_dataclass(record) and not isinstance(record, type):
        for f in fields(record):
            yield from list_arrays(getattr(record, f.name))
    elif isinstance(record, tuple):
        for part in record:
            yield from list_arrays(part)
    elif record is not None:
        yield record


def check_shapes(expected: Any, weights: Any) -> None:
    """Compare the shapes of arrays with the (name, shape) pairs in their places. UsageError: a difference."""
    if is_dataclass(expected) and not isinstance(expected, type):
        for f in fields(expected):
            check_shapes(getattr(expected, f.name), getattr(weights, f.name, None))
    elif isinstance(expected, tuple) and not (len(expected) == 2 and isinstance(expected[0], str)):
        parts = weights if isinstance(weights, tuple) else ()
        for i, part in enumerate(expected):
            check_shapes(part, parts[i] if i < len(parts) else None)
    elif expected is not None:
        name, shape = expected
        found = getattr(weights, "shape", None)
        if found is None or tuple(found) != shape:
            raise UsageError(
                "the array {name} has shape {found}, the config asks for {shape}", name=name, found=found, shape=shape
            )
