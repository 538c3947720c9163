"""The costs of one step in closed form: the model's own forward pass, run on shapes that hold a symbol.

One run covers every context length of an interval: the length is a polynomial's variable. Layers of one kind cost the
same, so one layer of each kind is run (`kvsim.costs.bytes.kinds`).
"""

from collections.abc import Iterable
from typing import Any

from kvsim.arrays import Array, get_backend
from kvsim.blueprint import build_weights
from kvsim.caches import new_cache
from kvsim.caches.cache import Cache
from kvsim.config import Config
from kvsim.costs.bytes.kinds import reduce_config
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Totals, total
from kvsim.counting.symbolic import Piece, pieces
from kvsim.ops import Ops
from kvsim.transformer.attention import Sequence
from kvsim.transformer.decoder import decode, read_out
from kvsim.transformer.encoder import encode


class Shapes:
    """A model whose arrays are shapes in `dtype`: it takes numbers of tokens instead of tokens."""

    def __init__(self, config: Config, dtype: str) -> None:
        self.config = config
        self.ops = Ops(get_backend("meta"), dtype)
        xp = self.ops.xp
        # Without data the products of all chosen experts run together, on the weights of the first one.
        self.weights = build_weights(config, lambda name, shape: xp.empty(shape, dtype=self.ops.dtype), one_expert=True)

    def encode(self, source: int) -> Array | None:
        """The encoder's output [source, D]; None if the model has no encoder."""
        config, weights, xp = self.config.encoder, self.weights.encoder, self.ops.xp
        if config is None or weights is None:
            return None
        inputs = self.ops.arange(0, source)
        if config.audio is not None:  # two frames make a position
            inputs = xp.empty((config.audio.n_mels, 2 * source), dtype=self.ops.dtype)
        return encode(self.ops, config, weights, inputs, tuple(new_cache("none", config, self.ops).layers))

    def feed(self, cache: Cache, count: Any, states: Array | None) -> None:
        """Run one step of `count` tokens after those that `cache` has seen, with the head on all of them."""
        pos = cache.admit(count)
        rows = Sequence(slice(0, count), pos, tuple(cache.layers), tuple(cache.cross), states)
        decode(self.ops, self.config, self.weights, self.ops.arange(0, count), [rows], last_only=False)
        cache.commit(pos)

    def read_out(self, rows: int) -> None:
        """Run the final norm and the head on `rows` positions."""
        x = self.ops.xp.empty((rows, self.config.d_model), dtype=self.ops.dtype)
        read_out(self.ops, self.config, self.weights, x)


Sites = dict[str, Totals]  # by site of the reduced model; each number an int or a Poly


def total_by_site(events: Iterable[MatMul]) -> Sites:
    """The totals of `events` per site."""
    groups: dict[str, list[MatMul]] = {}
    for event in events:
        groups.setdefault(event.site, []).append(event)
    return {site: total(group) for site, group in groups.items()}


class Forms:
    """The costs of the steps of one model with one cache policy, in closed form."""

    def __init__(self, config: Config, spec: str, dtype: str, context: int, source: int) -> None:
        self.kinds = reduce_config(config, context, source)
        self.shapes = Shapes(self.kinds.config, dtype)
        self.spec = spec
        with self.shapes.ops.count() as ledger:
            self.states = self.shapes.encode(source)
        self.encoding = total_by_site(ledger)  # of the source, in the first step only

    def _step(self, seen: Any, count: Any) -> tuple[Sites, Cache]:
        """The totals of a step of `count` tokens after `seen`, and the cache after it."""
        cache = new_cache(self.spec, self.kinds.config, self.shapes.ops)
        if not (type(seen) is int and seen == 0):
            self.shapes.feed(cache, seen, self.states)
        with self.shapes.ops.count() as ledger:
            self.shapes.feed(cache, count, self.states)
        return total_by_site(ledger), cache

    def head(self, rows: int) -> Sites:
        """The totals of everything after the last layer, on `rows` positions."""
        with self.shapes.ops.count() as ledger:
            self.shapes.read_out(rows)
        return total_by_site(ledger)

    def first(self, lo: int, hi: int) -> list[Piece[Sites]]:
        """The totals of a step that feeds t tokens to an empty cache, t = lo .. hi."""
        return list(pieces(lo, hi, lambda t: self._step(0, t)[0]))

    def next(self, lo: int, hi: int) -> list[Piece[Sites]]:
        """The totals of a step that feeds one token to a cache that has seen t, t = lo .. hi."""
        return list(pieces(lo, hi, lambda t: self._step(t, 1)[0]))

    def held_bytes(self, tokens: int) -> int:
        """Bytes that the cache holds after `tokens` tokens, cross-attention's included."""
        cache = self._step(0, tokens)[1]
        held = 0
        for i, layers in enumerate(self.kinds.members):
            parts = [part[i] for part in (cache.layers, cache.cross) if part]
            held += len(layers) * sum(layer.logical_bytes for layer in parts)
        return held
