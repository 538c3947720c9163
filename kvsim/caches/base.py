"""`LayerCache`, the interface of a cache policy: one layer's rows of keys and values.

A policy is a subclass of `LayerCache` in a file of its own, and a line in `kvsim.caches.specs.POLICIES`.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from kvsim.arrays import Array
from kvsim.checks import parse_whole
from kvsim.config import Config
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Span, View
from kvsim.text import one_line

Encode = Callable[[Any, Any, Span], tuple[Any, Any]]


class Shape(NamedTuple):
    """The shape of one row of one layer: G heads, each with a key of `d_key` and a value of `d_value` elements."""

    n_heads: int
    d_key: int
    d_value: int

    def row_bytes(self, ops: Ops) -> int:
        """Bytes of one token in one layer, in the model's dtype."""
        return self.n_heads * (self.d_key + self.d_value) * ops.item_bytes


class Waste(NamedTuple):
    """Bytes allocated beyond the rows in use, split as in the vLLM paper (arXiv:2309.06180).

    `reserved`: for tokens that may still come. `internal`: inside allocated blocks, never to be filled. `external`:
    between rows in use, holding rows that no later query sees.
    """

    reserved: int = 0
    internal: int = 0
    external: int = 0

    def plus(self, other: "Waste") -> "Waste":
        return Waste(*(a + b for a, b in zip(self, other, strict=True)))


class State(NamedTuple):
    """The contents of a layer, for copies and files: host integers and arrays, each under a name."""

    numbers: dict[str, int]
    arrays: dict[str, Any]


def array_bytes(ops: Ops, *arrays: Array) -> int:
    """Bytes of arrays of the model's dtype (the array API has no `nbytes`)."""
    count: int = sum(math.prod(array.shape) for array in arrays)
    return count * ops.item_bytes


def check_numbers(numbers: dict[str, int], expected: dict[str, int]) -> None:
    """ValueError: `numbers`, of a state from a file, are not those `expected`."""
    if numbers.keys() != expected.keys():
        raise ValueError(Words("the numbers of a layer are not those of this policy"))
    for name, number in expected.items():
        if numbers[name] != number:
            raise ValueError(_differing(name, shortened(numbers[name]), number))


def _differing(name: str, found: str, expected: int) -> Words:
    if name == "rows":
        return Words("a layer has {found} rows for {expected} ids", found=found, expected=expected)
    return Words("the number {name} of a layer is {found}, not {expected}", name=name, found=found, expected=expected)


def read_whole(text: str, name: str, example: str) -> int:
    """`text`, the options of the policy `name`, as a whole number of at least 1. UsageError: anything else."""
    size = parse_whole(name, text) if re.fullmatch("[0-9]+", text) else 0
    if size < 1:
        raise UsageError(
            "the cache {name} needs its size in tokens, at least 1, as in {example}, not {spec}",
            name=name,
            example=example,
            spec=shortened(f"{name}:{text}" if text else name),
        )
    return size


def layer_shape(config: Config) -> Shape:
    """The shape of a row of self-attention: keys and values, or for latent attention what its `form` caches (the latent
    [rank] as key and the shared rotary key [rope] as value, unless the expanded keys and values are cached)."""
    latent = config.latent
    if latent is None:
        return Shape(config.n_kv_heads, config.d_head, config.d_head)
    if latent.form == "cached_expanded":
        return Shape(config.n_heads, latent.d_nope + latent.d_rope, latent.d_value)
    return Shape(1, latent.rank, latent.d_rope)


def describe(kind: str, spec: str, config: Config, ops: Ops, contents: str) -> str:
    """The repr of a cache or pool: one line of at most 200 characters. `contents`: what it holds."""
    shape = layer_shape(config)
    sizes = f"{config.n_layers} layers of {shape.n_heads} heads ({shape.d_key} + {shape.d_value})"
    spec = spec if len(spec) <= 60 else f"{spec[:57]}..."
    where = f"{ops.dtype_name} on {ops.backend.name}"
    return one_line(f"<kvsim.{kind} {spec}: {config.family}, {sizes}, {where}; {contents}>")


class LayerCache(ABC):
    """One layer's rows of keys and values.

    `update` writes rows at `pos` and discards those at `pos` and after; `commit`, after every layer has been updated,
    evicts or quantises. Both must leave intact what the layer held: they write rows after those in use, or assign new
    arrays and lists, so that `roll_back` undoes an interrupted step by restoring the attributes that `snapshot` saved.
    """

    # Shown by `kvsim caches`
    example: ClassVar[str]  # a spec
    promise: ClassVar[Words]  # which rows it keeps, and in what form
    paper: ClassVar[str] = "-"
    lossless: ClassVar[bool] = True

    keeps: ClassVar[bool] = True  # False: no row is kept from one step to the next
    encodes_on_read: ClassVar[bool] = False  # are keys encoded with positions when read, not when written?
    in_pool: ClassVar[bool] = False  # are rows stored in the blocks of a pool?
    takes_windows: ClassVar[bool] = False  # also layers whose attention has a window? If not, these are WindowLayers
    wraps: ClassVar[bool] = False  # are its options the spec of another policy?
    symbolic: ClassVar[bool] = False  # do its shapes follow from lengths alone, as polynomials?

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        self.ops, self.shape, self.options = ops, shape, options

    # Options of the policy, and the models that it supports

    @classmethod
    def read_options(cls, name: str, text: str) -> Any:
        """The options after the colon of a spec ("": none, ":": a colon and nothing after it), parsed. UsageError: not
        options of this policy."""
        if text:
            raise UsageError(
                "the cache {name} takes no size: use {name}, not {spec}", name=name, spec=shortened(f"{name}:{text}")
            )
        return None

    @classmethod
    def print_options(cls, options: Any) -> str:
        """The options as text that `read_options` parses back."""
        return "" if options is None else str(options)

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: Any) -> None:
        """UsageError: the policy does not support this model, dtype or backend, with the reason."""

    @classmethod
    def is_lossless(cls, config: Config, options: Any) -> bool:
        """Are the logits those of a run without a cache, for this model?"""
        return cls.lossless

    @classmethod
    def capacity(cls, options: Any) -> int | None:
        """Tokens that a cache can hold. None: limited by the model's context only."""
        return None

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Any) -> Fraction:
        """Bytes of one token in one layer while the policy keeps it, metadata included. A fraction, because several
        tokens may share a scale."""
        return Fraction(shape.row_bytes(ops))

    @classmethod
    def new_layer(cls, ops: Ops, shape: Shape, options: Any, window: int | None) -> "LayerCache":
        """An empty layer. `window`: that of the model's attention in this layer; not None only if `takes_windows`."""
        return cls(ops, shape, options)

    @classmethod
    def check_wrapped(cls, spec: str, policy: "type[LayerCache]") -> None:
        """UsageError: this policy, which `wraps` another, cannot wrap the `policy` of `spec`."""

    # Called by attention and by `Cache`

    def _allocate(self, capacity: int) -> tuple[Array, Array]:
        """Uninitialised arrays for `capacity` rows of keys and of values, [G, capacity, K] each."""
        ops, (g, k, v) = self.ops, self.shape
        made = [ops.xp.empty((g, capacity, d), dtype=ops.dtype, device=ops.device) for d in (k, v)]
        return made[0], made[1]

    @abstractmethod
    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View, ...]:
        """Writes the new rows [G, T, K] at `pos`. Returns the keys and values that their queries may see, one view for
        each group of queries that see the same rows, in order. `encode(keys, values, pos)` encodes positions."""

    def commit(self, pos: Span) -> None:
        """Called when every layer has been updated at `pos`: the step can no longer fail."""

    def snapshot(self) -> dict[str, Any]:
        """The attributes, for `roll_back`."""
        return self.__dict__.copy()

    def roll_back(self, snapshot: dict[str, Any]) -> None:
        """Returns to the state of `snapshot`. May be repeated after an interruption."""
        self.__dict__.update(snapshot)

    # Contents and bytes

    @property
    @abstractmethod
    def keys(self) -> Array:
        """The keys held, [G, S, K], encoded with positions unless `encodes_on_read`."""

    @property
    @abstractmethod
    def values(self) -> Array:
        """The values held, [G, S, K]."""

    @property
    def held_positions(self) -> "tuple[Span, ...] | Array | None":
        """The positions of the rows held: spans, the same in every head, or an array [G, S]. A row that has left never
        returns. None: the policy does not tell."""
        return None

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows in use."""
        return array_bytes(self.ops, self.keys, self.values)

    @property
    @abstractmethod
    def allocated_bytes(self) -> int:
        """Bytes of the arrays that hold the rows, spare capacity included."""

    @property
    def metadata_bytes(self) -> int:
        """Bytes kept in addition to the rows: scales, zero points, positions, scores, block tables."""
        return 0

    @property
    def waste(self) -> Waste:
        """`allocated_bytes` - `logical_bytes`, split by reason."""
        return Waste(reserved=self.allocated_bytes - self.logical_bytes)

    # Operations

    @property
    def home(self) -> Ops:
        """The operations (backend and device) of the arrays of `state`."""
        return self.ops

    def fresh(self) -> "LayerCache":
        """An empty layer with the same policy, options and shape."""
        return type(self)(self.ops, self.shape, self.options)

    def check_crop(self, length: int) -> None:
        """UsageError: the layer cannot return to the state that a new cache would have after the first `length`
        tokens, with the reason."""

    @abstractmethod
    def crop(self, length: int) -> None:
        """Discards all tokens but the first `length`. Call `check_crop` first."""

    @abstractmethod
    def state(self) -> State:
        """The contents. Arrays may be views of the layer's own: copy what you keep."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Replaces the contents by a copy of `state`, taken from a layer of the same policy, options and shape."""

    # States from files

    def _shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """The shapes of arrays "keys" and "values" of that many rows."""
        g, k, v = self.shape
        return {"keys": (g, rows, k), "values": (g, rows, v)}

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the arrays in the state of a cache that has seen `seen` tokens and has these numbers.
        ValueError: such a state is impossible, or the policy has no `expect`, so that its caches cannot be saved."""
        raise ValueError(Words("{layer} does not define expect", layer=type(self).__name__))

    def check_arrays(self, state: State) -> None:
        """`state` has host arrays (NumPy) of the dtypes and shapes expected, and all floats are finite. ValueError: no
        layer of this policy can hold these positions, scales or codes."""
