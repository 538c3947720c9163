"""Caches, one policy a file. A new policy is a file and one line in `POLICIES`.

A cache is chosen by a string that parses and prints back: "none", "dynamic", "static:4096", "window:256",
"sinks:4+252".
"""

from typing import Any, NamedTuple

from kvsim.caches.base import LayerCache, layer_shape
from kvsim.caches.cache import Cache
from kvsim.caches.dynamic import DynamicLayer
from kvsim.caches.evicting.h2o import HeavyHittersLayer
from kvsim.caches.evicting.knorm import ShortKeysLayer
from kvsim.caches.evicting.snapkv import SnapLayer
from kvsim.caches.none import NoLayer
from kvsim.caches.offload import OffloadLayer
from kvsim.caches.paged.layer import PagedLayer
from kvsim.caches.paged.pool import Pool
from kvsim.caches.quantised.layer import Fp8Layer, Int4Layer, Int8Layer
from kvsim.caches.sinks import SinksLayer
from kvsim.caches.static import StaticLayer
from kvsim.caches.window import WindowLayer
from kvsim.config import Config
from kvsim.errors import UsageError, shortened
from kvsim.ops import Ops

POLICIES: dict[str, type[LayerCache]] = {
    "none": NoLayer,
    "dynamic": DynamicLayer,
    "static": StaticLayer,
    "paged": PagedLayer,
    "window": WindowLayer,
    "sinks": SinksLayer,
    "int8": Int8Layer,
    "int4": Int4Layer,
    "fp8": Fp8Layer,
    "h2o": HeavyHittersLayer,
    "snapkv": SnapLayer,
    "knorm": ShortKeysLayer,
    "offload": OffloadLayer,
}
EXAMPLES = tuple(policy.example for policy in POLICIES.values())


class Spec(NamedTuple):
    """A policy and its options, which print back as they are parsed."""

    name: str
    options: Any

    @property
    def policy(self) -> type[LayerCache]:
        return POLICIES[self.name]

    def __str__(self) -> str:
        options = self.policy.print_options(self.options)
        return f"{self.name}:{options}" if options else self.name


def parse_spec(spec: str) -> Spec:
    """ "static:4096" -> Spec("static", 4096); UsageError for what names no policy, or options that it does not take."""
    name, colon, text = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name not in POLICIES:
        raise UsageError("unknown cache {spec}: use one of {known}", spec=shortened(spec), known=", ".join(EXAMPLES))
    return Spec(name, POLICIES[name].read_options(name, text or colon))


def new_cache(spec: str, config: Config, ops: Ops) -> Cache:
    """An empty cache of the policy `spec` for one sequence of the model `config`.

    UsageError: no such policy, a model that it does not fit, or more than can be allocated.
    """
    parsed = parse_spec(spec)
    policy, options = parsed.policy, parsed.options
    policy.check(str(parsed), config, ops, options)
    try:
        with ops.running():  # a device that is full says what it holds and has left
            return policy.make_cache(str(parsed), config, ops, options)
    except UsageError:
        raise
    except (MemoryError, ValueError) as error:
        needed = config.n_layers * layer_shape(config).row_bytes(ops) * (policy.capacity(options) or 0)
        raise UsageError(
            "the cache {spec} needs {needed} bytes, more than can be allocated: use a smaller one or dynamic",
            spec=spec,
            needed=needed,
        ) from error


def new_pool(spec: str, config: Config, ops: Ops, blocks: int | None) -> Pool:
    """`blocks` empty blocks of the policy `spec` ("paged:16") for sequences of the model `config`; None: as many as it
    takes, and nothing is ever given up that can still be found.

    UsageError: another policy, no number of blocks, or more than can be allocated.
    """
    parsed = parse_spec(spec)
    if not issubclass(parsed.policy, PagedLayer):
        raise UsageError("a pool is made of blocks: use {example}, not {spec}", example=PagedLayer.example, spec=spec)
    if blocks is not None and (isinstance(blocks, bool) or not hasattr(blocks, "__index__") or blocks < 1):
        raise UsageError("the number of blocks must be at least 1, or None, got {got}", got=shortened(blocks))
    with ops.running():
        return Pool(str(parsed), config, ops, parsed.options, blocks)
