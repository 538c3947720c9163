"""KV caches: one policy a file, made from a spec such as "none", "dynamic", "static:4096", "window:256", "sinks:4+252".

A new policy is a file and one line in `kvsim.caches.specs.POLICIES`.
"""

from typing import TYPE_CHECKING, Any

from kvsim.caches.base import LayerCache, Shape, layer_shape
from kvsim.caches.cache import Cache
from kvsim.caches.specs import Spec, parse_spec
from kvsim.checks import check_whole
from kvsim.config import Config
from kvsim.errors import UsageError
from kvsim.ops import Ops

if TYPE_CHECKING:
    from kvsim.caches.paged.pool import Pool


def new_cache(spec: str, config: Config, ops: Ops) -> Cache:
    """An empty cache of the policy `spec` for one sequence of the model `config`.

    UsageError: an unknown policy, a policy that does not fit the model, or more memory than can be allocated.
    """
    parsed = parse_spec(spec)
    policy, options = parsed.policy, parsed.options
    policy.check(str(parsed), config, ops, options)
    try:
        with ops.backend.running():  # reports the memory of a device that is full
            return _make_cache(parsed, config, ops)
    except UsageError:
        raise
    except (MemoryError, ValueError) as error:
        needed = config.n_layers * layer_shape(config).row_bytes(ops) * (policy.capacity(options) or 0)
        raise UsageError(
            "the cache {spec} needs {needed} bytes, more than can be allocated: use a smaller one or dynamic",
            spec=spec,
            needed=needed,
        ) from error


def new_pool(spec: str, config: Config, ops: Ops, blocks: int | None) -> "Pool":
    """A pool of `blocks` empty blocks of the policy `spec` ("paged:16") for sequences of the model `config`. None: the
    pool grows as needed and never evicts a cached prefix.

    UsageError: another policy, `blocks` below 1, or more memory than can be allocated.
    """
    parsed = parse_spec(spec)
    if not parsed.policy.in_pool:
        from kvsim.caches.paged.layer import PagedLayer

        raise UsageError("a pool is made of blocks: use {example}, not {spec}", example=PagedLayer.example, spec=spec)
    if blocks is not None:
        blocks = check_whole("blocks", blocks, 1)
    from kvsim.caches.paged.pool import Pool

    with ops.backend.running():
        return Pool(str(parsed), config, ops, parsed.options, blocks)


def _make_cache(spec: Spec, config: Config, ops: Ops) -> Cache:
    """An empty cache; paged: the only one of a pool of its own."""
    policy, options = spec.policy, spec.options
    if policy.in_pool:
        from kvsim.caches.paged.pool import Pool

        return Pool(str(spec), config, ops, options, None, alone=True).new_cache()
    lossless = policy.is_lossless(config, options)
    return Cache(str(spec), config, ops, _make_layers(spec, config, ops), policy.capacity(options), lossless)


def _make_layers(spec: Spec, config: Config, ops: Ops) -> list[LayerCache]:
    """An empty layer for each of the model's."""
    policy, options, shape = spec.policy, spec.options, layer_shape(config)
    if policy.wraps:
        from kvsim.caches.offload import OffloadLayer, host_ops

        return [OffloadLayer(ops, shape, options, layer) for layer in _make_layers(options, config, host_ops(ops))]
    return [_make_layer(policy, ops, shape, options, kind.window) for kind in config.layers]


def _make_layer(policy: type[LayerCache], ops: Ops, shape: Shape, options: Any, window: int | None) -> LayerCache:
    """An empty layer; `window`: that of the model's attention in this layer."""
    if window is None or policy.takes_windows:
        return policy.new_layer(ops, shape, options, window)
    from kvsim.caches.window import WindowLayer

    return WindowLayer(ops, shape, window)
