"""Caches, one policy a file. A new policy is a file and one line in `POLICIES`.

A cache is chosen by a string that parses and prints back: "none", "dynamic", "static:4096".
"""

import re

from kvsim.caches.base import Cache, LayerCache, Shape
from kvsim.caches.cross import CrossLayer
from kvsim.caches.dynamic import DynamicLayer
from kvsim.caches.none import NoLayer
from kvsim.caches.static import StaticLayer
from kvsim.caches.window import WindowLayer
from kvsim.config import Config
from kvsim.errors import UsageError, shortened
from kvsim.ops import Ops

POLICIES: dict[str, type[LayerCache]] = {"none": NoLayer, "dynamic": DynamicLayer, "static": StaticLayer}
EXAMPLES = ("none", "dynamic", "static:4096")


def parse_spec(spec: str) -> tuple[str, int | None]:
    """ "static:4096" -> ("static", 4096); UsageError for what names no policy, or lacks its size."""
    name, colon, size = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name not in POLICIES:
        raise UsageError("unknown cache {spec}: use one of {known}", spec=shortened(spec), known=", ".join(EXAMPLES))
    if not POLICIES[name].sized:
        if colon:
            raise UsageError("the cache {name} takes no size: use {name}, not {spec}", name=name, spec=shortened(spec))
        return name, None
    if not (re.fullmatch("[0-9]{1,18}", size) and int(size) > 0):
        raise UsageError(
            "the cache {name} needs its size in tokens, at least 1, as in {name}:4096, not {spec}",
            name=name,
            spec=shortened(spec),
        )
    return name, int(size)


def layer_shape(config: Config) -> Shape:
    """What a row of self-attention's cache holds (DESIGN: what a cache of each attention kind holds)."""
    latent = config.latent
    if latent is None:
        return Shape(config.n_kv_heads, config.d_head, config.d_head)
    if latent.form == "cached_expanded":
        return Shape(config.n_heads, latent.d_nope + latent.d_rope, latent.d_value)
    return Shape(1, latent.rank, latent.d_rope)


def new_layer(name: str, size: int | None, ops: Ops, shape: Shape, window: int | None) -> LayerCache:
    """One layer of the policy `name`; where the model has a window, `dynamic` keeps no more than it."""
    if name == "dynamic" and window is not None:
        return WindowLayer(ops, shape, window)
    return POLICIES[name](ops, shape, size)


def new_cache(spec: str, config: Config, ops: Ops) -> Cache:
    """An empty cache of the policy `spec` for one sequence of the model `config`."""
    name, size = parse_spec(spec)
    shape = layer_shape(config)
    try:
        with ops.running():  # a device that is full says what it holds and has left
            layers = [new_layer(name, size, ops, shape, kind.window) for kind in config.layers]
    except (MemoryError, ValueError) as error:
        needed = config.n_layers * shape.row_bytes(ops) * (size or 0)
        raise UsageError(
            "the cache {spec} needs {needed} bytes, more than can be allocated: use a smaller one or dynamic",
            spec=spec,
            needed=needed,
        ) from error
    cross: list[CrossLayer] = []
    if config.encoder is not None:
        shape = Shape(config.n_kv_heads, config.d_head, config.d_head)
        cross = [CrossLayer(ops, shape, keeps=name != "none") for _ in config.layers]
    printed = name if size is None else f"{name}:{size}"
    return Cache(printed, ops, layers, cross, capacity=size)
