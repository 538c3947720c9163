"""What every layer of a cache is: rows of keys and values, taken in at their positions and shown to the queries.

A policy is a subclass of `LayerCache` in a file of its own, and a line in `kvsim.caches.POLICIES`.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Span, View

if TYPE_CHECKING:
    from kvsim.caches.cache import Cache

Encode = Callable[[Any, Any, Span], tuple[Any, Any]]


class Shape(NamedTuple):
    """One row of one layer: G heads, a key of `d_key` and a value of `d_value` elements each."""

    n_heads: int
    d_key: int
    d_value: int

    def row_bytes(self, ops: Ops) -> int:
        """Bytes of one token in one layer."""
        return self.n_heads * (self.d_key + self.d_value) * ops.item_bytes


class Waste(NamedTuple):
    """Bytes allocated beyond the rows that matter, as the vLLM paper splits them (arXiv:2309.06180): `reserved` for
    tokens that may still come; `internal`, inside of what was given out, where none ever will; `external`, between
    what is held, where nothing that anybody needs lies."""

    reserved: int = 0
    internal: int = 0
    external: int = 0

    def plus(self, other: "Waste") -> "Waste":
        return Waste(*(a + b for a, b in zip(self, other, strict=True)))


class State(NamedTuple):
    """All that a layer holds, to be copied or written to a file: host integers, and arrays by name."""

    numbers: dict[str, int]
    arrays: dict[str, Any]


def array_bytes(ops: Ops, *arrays: Array) -> int:
    """Bytes that arrays of the model's dtype hold (the array API has no `nbytes`)."""
    count: int = sum(math.prod(array.shape) for array in arrays)
    return count * ops.item_bytes


def read_whole(text: str, name: str, example: str) -> int:
    """A whole number of at least 1 in a policy's options. UsageError: it is none."""
    if not (re.fullmatch("[0-9]{1,18}", text) and int(text) > 0):
        raise UsageError(
            "the cache {name} needs its size in tokens, at least 1, as in {example}, not {spec}",
            name=name,
            example=example,
            spec=shortened(f"{name}:{text}" if text else name),
        )
    return int(text)


def layer_shape(config: Config) -> Shape:
    """What a row of self-attention's cache holds (DESIGN: what a cache of each attention kind holds)."""
    latent = config.latent
    if latent is None:
        return Shape(config.n_kv_heads, config.d_head, config.d_head)
    if latent.form == "cached_expanded":
        return Shape(config.n_heads, latent.d_nope + latent.d_rope, latent.d_value)
    return Shape(1, latent.rank, latent.d_rope)


class LayerCache(ABC):
    """One layer's rows. `update` writes at `pos` and drops whatever stood there or after, so that a
    forward pass which was interrupted leaves nothing behind: its rows are overwritten by the next. What cannot be
    taken back (rows let go, rows quantised) happens in `commit`, when every layer is through.
    """

    # What `kvsim caches` tells of the policy.
    example: ClassVar[str]  # a spec
    promise: ClassVar[Words]  # what it keeps and what it loses
    paper: ClassVar[str] = "-"
    lossless: ClassVar[bool] = True

    keeps: ClassVar[bool] = True  # False: every step starts from nothing
    encodes_on_read: ClassVar[bool] = False  # are positions worked in when rows are read, not when they are written?
    by_layer: ClassVar[bool] = True  # are a layer's rows its own, and not blocks of a pool?
    symbolic: ClassVar[bool] = False  # do its shapes follow from lengths alone, as polynomials?

    def __init__(self, ops: Ops, shape: Shape, options: Any) -> None:
        self.ops, self.shape, self.options = ops, shape, options

    # The policy: its options and where it fits

    @classmethod
    def read_options(cls, name: str, text: str) -> Any:
        """What stands after the colon of a spec ("" if there is none). UsageError: not what the policy takes."""
        if text:
            raise UsageError(
                "the cache {name} takes no size: use {name}, not {spec}", name=name, spec=shortened(f"{name}:{text}")
            )
        return None

    @classmethod
    def print_options(cls, options: Any) -> str:
        """The same, printed back."""
        return "" if options is None else str(options)

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: Any) -> None:
        """UsageError: a model that the policy does not fit, with the reason."""

    @classmethod
    def is_lossless(cls, config: Config, options: Any) -> bool:
        """Does it give the logits of a run without a cache, for this model?"""
        return cls.lossless

    @classmethod
    def capacity(cls, options: Any) -> int | None:
        """Tokens that a cache can hold; None: as many as the model's context."""
        return None

    @classmethod
    def row_bytes(cls, ops: Ops, shape: Shape, options: Any) -> Fraction:
        """Bytes of one token in one layer for as long as the policy keeps it, with its share of what stands beside
        the rows: a fraction, since several tokens may share a scale."""
        return Fraction(shape.row_bytes(ops))

    @classmethod
    def make_layers(cls, config: Config, ops: Ops, options: Any) -> "list[LayerCache]":
        """An empty layer for each of the model's. Layers with a window of their own keep that window."""
        from kvsim.caches.window import WindowLayer

        shape = layer_shape(config)
        windows = [kind.window for kind in config.layers]
        return [cls(ops, shape, options) if w is None else WindowLayer(ops, shape, w) for w in windows]

    @classmethod
    def make_cache(cls, spec: str, config: Config, ops: Ops, options: Any) -> "Cache":
        """An empty cache of this policy for one sequence."""
        from kvsim.caches.cache import Cache

        layers = cls.make_layers(config, ops, options)
        return Cache(spec, config, ops, layers, cls.capacity(options), cls.is_lossless(config, options))

    # What attention calls

    def _allocate(self, capacity: int) -> tuple[Array, Array]:
        """Arrays for `capacity` rows of keys and of values, [G, capacity, K] each."""
        ops, (g, k, v) = self.ops, self.shape
        made = [ops.xp.empty((g, capacity, d), dtype=ops.dtype, device=ops.device) for d in (k, v)]
        return made[0], made[1]

    @abstractmethod
    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> View:
        """Take the new rows [G, T, K] at `pos`; answer with all that their queries may look at."""

    def commit(self, pos: Span) -> None:
        """The rows at `pos` are there for good: every layer has taken its own."""

    def rewind(self, seen: int) -> None:
        """A step after the first `seen` tokens was interrupted: forget what it brought, if anything."""
        self.crop(seen)

    # What is held

    @property
    @abstractmethod
    def keys(self) -> Array:
        """The keys held, encoded unless the policy says otherwise: [G, S, K]."""

    @property
    @abstractmethod
    def values(self) -> Array:
        """The values held: [G, S, K]."""

    @property
    def logical_bytes(self) -> int:
        """Bytes of the rows that matter."""
        return array_bytes(self.ops, self.keys, self.values)

    @property
    @abstractmethod
    def allocated_bytes(self) -> int:
        """Bytes of the arrays that hold them, room to grow included."""

    @property
    def metadata_bytes(self) -> int:
        """Bytes of what is kept beside the rows: scales, zero points, positions, scores, block tables."""
        return 0

    @property
    def waste(self) -> Waste:
        """allocated - logical, split."""
        return Waste(reserved=self.allocated_bytes - self.logical_bytes)

    # Operations

    @property
    def home(self) -> Ops:
        """Where the arrays of `state` live."""
        return self.ops

    def fresh(self) -> "LayerCache":
        """An empty layer of the same kind."""
        return type(self)(self.ops, self.shape, self.options)

    def check_crop(self, length: int) -> None:
        """UsageError: the first `length` tokens cannot be had as a fresh run would leave them, and why."""

    @abstractmethod
    def crop(self, length: int) -> None:
        """Forget all tokens but the first `length`; `check_crop` has agreed."""

    @abstractmethod
    def state(self) -> State:
        """All that it holds. Arrays may be views: whoever keeps them copies them."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Hold a copy of `state`, of a layer of the same kind."""
