"""The costs of one step in closed form: the model's own forward pass, run on shapes that hold a symbol.

`steps_from` runs a step for every context length of an interval at once. A model's layers of one kind cost
the same, so each kind is run once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from kvsim.arrays import Array, get_backend
from kvsim.blueprint import build_weights
from kvsim.caches import new_cache
from kvsim.caches.cache import Cache
from kvsim.config import Config, LayerKind
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Totals, total
from kvsim.counting.symbolic import Piece, pieces
from kvsim.ops import Ops
from kvsim.transformer.attention import Sequence
from kvsim.transformer.decoder import decode, read_out
from kvsim.transformer.encoder import encode


@dataclass(frozen=True)
class Kinds:
    """A model with one layer of each kind, and which layers each stands for."""

    config: Config
    members: tuple[tuple[int, ...], ...]  # layers of the model, for each layer of `config`
    encoder_members: tuple[tuple[int, ...], ...] = ()

    def names(self, site: str) -> list[str]:
        """The sites of the model that `site` of the small one stands for."""
        head, _, rest = site.partition("layers.")
        if not rest:
            return [site]
        number, _, place = rest.partition(".")
        members = self.encoder_members if head else self.members
        return [f"{head}layers.{i}.{place}" for i in members[int(number)]]

    def times(self, site: str) -> int:
        """How many sites of the model `site` stands for."""
        return len(self.names(site)) if "layers." in site else 1


def one_of_each(layers: Iterable[LayerKind]) -> dict[LayerKind, tuple[int, ...]]:
    """The kinds in the order in which they first come, and the layers of each."""
    found: dict[LayerKind, tuple[int, ...]] = {}
    for i, kind in enumerate(layers):
        found[kind] = (*found.get(kind, ()), i)
    return found


def reduce_config(config: Config, context: int, source: int) -> Kinds:
    """The model with one layer of each kind, and positions enough: a look-up costs nothing, and a context
    beyond the model's is counted all the same."""

    def small(part: Config, needed: int) -> tuple[Config, tuple[tuple[int, ...], ...]]:
        kinds = one_of_each(part.layers)
        room = max(part.max_context, needed)
        return replace(part, layers=tuple(kinds), n_layers=len(kinds), max_context=room), tuple(kinds.values())

    reduced, members = small(config, context)
    if config.encoder is None:
        return Kinds(reduced, members)
    encoder, encoder_members = small(config.encoder, source)
    return Kinds(replace(reduced, encoder=encoder), members, encoder_members)


class Shapes:
    """A model of shapes in `dtype`, which is fed numbers of tokens instead of tokens."""

    def __init__(self, config: Config, dtype: str) -> None:
        self.config = config
        self.ops = Ops(get_backend("meta"), dtype)
        xp = self.ops.xp
        self.weights = build_weights(config, lambda name, shape: xp.empty(shape, dtype=self.ops.dtype))

    def encode(self, source: int) -> Array | None:
        """The encoder's output [source, D]; None without an encoder."""
        config, weights, xp = self.config.encoder, self.weights.encoder, self.ops.xp
        if config is None or weights is None:
            return None
        given = self.ops.arange(0, source)
        if config.audio is not None:  # two frames make a position
            given = xp.empty((config.audio.n_mels, 2 * source), dtype=self.ops.dtype)
        return encode(self.ops, config, weights, given, tuple(new_cache("none", config, self.ops).layers))

    def feed(self, cache: Cache, count: Any, states: Array | None) -> None:
        """One step: `count` tokens follow those that the cache has seen; all of them go through the head."""
        pos = cache.admit(count)
        rows = Sequence(slice(0, count), pos, tuple(cache.layers), tuple(cache.cross), states)
        decode(self.ops, self.config, self.weights, self.ops.arange(0, count), [rows], last_only=False)
        cache.commit(pos)

    def read_out(self, rows: int) -> None:
        """The head alone, on so many positions."""
        x = self.ops.xp.empty((rows, self.config.d_model), dtype=self.ops.dtype)
        read_out(self.ops, self.config, self.weights, x)


Sites = dict[str, Totals]  # of the small model; each number an int or a Poly


def add_sites(events: Iterable[MatMul]) -> Sites:
    groups: dict[str, list[MatMul]] = {}
    for event in events:
        groups.setdefault(event.site, []).append(event)
    return {site: total(of) for site, of in groups.items()}


class Forms:
    """One model and cache policy: what its steps cost, in closed form."""

    def __init__(self, config: Config, spec: str, dtype: str, context: int, source: int) -> None:
        self.kinds = reduce_config(config, context, source)
        self.shapes = Shapes(self.kinds.config, dtype)
        self.spec = spec
        with self.shapes.ops.count() as ledger:
            self.states = self.shapes.encode(source)
        self.encoding = add_sites(ledger)  # of the source, once

    def _fed(self, seen: Any, count: Any) -> tuple[Sites, Cache]:
        cache = new_cache(self.spec, self.kinds.config, self.shapes.ops)
        if not (type(seen) is int and seen == 0):
            self.shapes.feed(cache, seen, self.states)
        with self.shapes.ops.count() as ledger:
            self.shapes.feed(cache, count, self.states)
        return add_sites(ledger), cache

    def head(self, rows: int) -> Sites:
        """What comes after the last layer, on so many positions."""
        with self.shapes.ops.count() as ledger:
            self.shapes.read_out(rows)
        return add_sites(ledger)

    def first(self, lo: int, hi: int) -> list[Piece[Sites]]:
        """A step that feeds t tokens to an empty cache, t = lo .. hi."""
        return list(pieces(lo, hi, lambda t: self._fed(0, t)[0]))

    def next(self, lo: int, hi: int) -> list[Piece[Sites]]:
        """A step that feeds one token to a cache which has seen t, t = lo .. hi."""
        return list(pieces(lo, hi, lambda t: self._fed(t, 1)[0]))

    def held_bytes(self, tokens: int) -> int:
        """What the cache holds after `tokens` tokens."""
        cache = self._fed(0, tokens)[1]
        held = [
            sum(layer.logical_bytes for layer in (part[i] for part in (cache.layers, cache.cross) if part)) * len(who)
            for i, who in enumerate(self.kinds.members)
        ]
        return sum(held)
