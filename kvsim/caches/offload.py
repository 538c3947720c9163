"""`offload:POLICY`: the rows of another policy are stored on the host and copied to the device for each step (FlexGen,
arXiv:2303.06865).

On NumPy the host is the device: nothing is copied, but the bytes that a device would copy are counted.
"""

from typing import TYPE_CHECKING, Any

from kvsim.arrays import Array, get_backend
from kvsim.caches.base import Encode, LayerCache, Shape, State, Waste
from kvsim.config import Config
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Scattered, Span, View

if TYPE_CHECKING:
    from kvsim.caches.specs import Spec

ON_HOST = ("numpy", "exact", "meta")


def host_ops(ops: Ops) -> Ops:
    """Operations on the host: `ops` itself if its arrays are there already."""
    return ops if ops.backend.name in ON_HOST else Ops(get_backend("numpy"), ops.dtype_name)


class OffloadLayer(LayerCache):
    """A layer of another policy on the host. `stored_bytes` and `fetched_bytes` count all copies to it and from it."""

    example = "offload:dynamic"
    promise = Words("as the policy after the colon; rows are stored on the host and fetched for each step")
    paper = "arXiv:2303.06865"
    wraps = True

    def __init__(self, ops: Ops, shape: Shape, options: "Spec", layer: LayerCache) -> None:
        super().__init__(ops, shape, options)
        self.layer = layer
        self.stored_bytes = self.fetched_bytes = 0

    @classmethod
    def read_options(cls, name: str, text: str) -> str:
        if not text or text == ":":
            raise UsageError("the cache {name} needs a policy, as in {example}", name=name, example=cls.example)
        return text

    @classmethod
    def check_wrapped(cls, spec: str, policy: type[LayerCache]) -> None:
        if not policy.keeps or policy.in_pool:
            raise UsageError("the cache {spec} cannot be offloaded: its rows are in a pool or not kept", spec=spec)

    @classmethod
    def check(cls, spec: str, config: Config, ops: Ops, options: "Spec") -> None:
        if not ops.backend.holds_data:
            return
        if ops.dtype_name not in get_backend("numpy").dtypes:
            raise UsageError(
                "rows in {dtype} cannot be stored on the host: NumPy does not support it, use float16 or float32",
                dtype=shortened(ops.dtype_name),
            )
        options.policy.check(str(options), config, host_ops(ops), options.options)

    @classmethod
    def is_lossless(cls, config: Config, options: "Spec") -> bool:
        return options.policy.is_lossless(config, options.options)

    @classmethod
    def capacity(cls, options: "Spec") -> int | None:
        return options.policy.capacity(options.options)

    # Copies between host and device

    def _bytes(self, x: Array) -> int:
        bits = 64 if x.dtype == self.ops.xp.int64 else 8 * self.ops.item_bytes
        count = 1
        for size in x.shape:
            count *= size
        return count * bits // 8

    def _down(self, x: Array) -> Array:
        self.stored_bytes += self._bytes(x)
        return x if self.layer.ops is self.ops else self.layer.ops.xp.asarray(self.ops.backend.to_host(x))

    def _up(self, x: Array) -> Array:
        host = self.layer.ops
        made = x if host is self.ops else self.ops.xp.asarray(x, device=self.ops.device)
        self.fetched_bytes += self._bytes(made)
        return made

    def _fetch(self, view: View) -> View:
        where = view.key_pos
        if isinstance(where, Scattered):
            where = where._replace(old=self._up(where.old))
        observer = None if view.observer is None else self._observe(view.observer)
        return view._replace(keys=self._up(view.keys), values=self._up(view.values), key_pos=where, observer=observer)

    def _observe(self, observer: Any) -> Any:
        return lambda queries, probs: observer(self._down(queries), self._down(probs))

    def update(self, keys: Array, values: Array, pos: Span, encode: Encode) -> tuple[View, ...]:
        """Positions are always encoded on the device: before rows are stored, or, if the policy encodes on read, in a
        round trip of the rows that it reads."""
        if self.layer.encodes_on_read:

            def encode_there(k: Array, v: Array, at: Span) -> tuple[Array, Array]:
                k, v = encode(self._up(k), self._up(v), at)
                return self._down(k), self._down(v)

        else:
            keys, values = encode(keys, values, pos)

            def encode_there(k: Array, v: Array, at: Span) -> tuple[Array, Array]:
                return k, v  # encoded already

        views = self.layer.update(self._down(keys), self._down(values), pos, encode_there)
        return tuple([self._fetch(view) for view in views])

    # Everything else is that of the layer on the host

    @property
    def home(self) -> Ops:
        return self.layer.ops

    def commit(self, pos: Span) -> None:
        self.layer.commit(pos)

    @property
    def keys(self) -> Array:
        """On the host."""
        return self.layer.keys

    @property
    def values(self) -> Array:
        """On the host."""
        return self.layer.values

    @property
    def held_positions(self) -> tuple[Span, ...] | Array | None:
        return self.layer.held_positions

    @property
    def logical_bytes(self) -> int:
        return self.layer.logical_bytes

    @property
    def allocated_bytes(self) -> int:
        return self.layer.allocated_bytes

    @property
    def metadata_bytes(self) -> int:
        return self.layer.metadata_bytes

    @property
    def waste(self) -> Waste:
        return self.layer.waste

    def fresh(self) -> "OffloadLayer":
        return OffloadLayer(self.ops, self.shape, self.options, self.layer.fresh())

    def check_crop(self, length: int) -> None:
        self.layer.check_crop(length)

    def snapshot(self) -> dict[str, Any]:
        """Without the numbers of bytes copied: an interrupted step has copied them."""
        return self.layer.snapshot()

    def roll_back(self, snapshot: dict[str, Any]) -> None:
        self.layer.roll_back(snapshot)

    def crop(self, length: int) -> None:
        self.layer.crop(length)

    def state(self) -> State:
        return self.layer.state()

    def restore(self, state: State) -> None:
        self.layer.restore(state)

    def expect(self, seen: int, numbers: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return self.layer.expect(seen, numbers)

    def check_arrays(self, state: State) -> None:
        self.layer.check_arrays(state)
