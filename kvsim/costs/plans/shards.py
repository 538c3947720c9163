"""What one of several devices holds of a model under tensor parallelism (Megatron-LM, arXiv:1909.08053).

A device's share is a model too, with fewer heads, narrower feed-forward layers and experts, and a part of the
vocabulary: norms, routers, position tables, the biases of what is summed over devices, and what makes and holds the
latents of latent attention are on every device. Widths and vocabularies that do not divide are rounded up, so that
the share is that of the fullest device; query heads must divide. A device has each KV head that one of its query
heads reads: KV heads that do not divide are on several devices.

Quantised weights are the layers' matrices, groups of 128 inputs sharing a float16 scale (as in GPTQ, arXiv:2210.17323,
and AWQ, arXiv:2306.00978, without zero points); tables, head, norms, routers and biases stay as they came.
"""

from dataclasses import replace
from math import prod

from kvsim.config import Config, Experts, LayerKind
from kvsim.costs.bytes.parameters import BYTES, group_of, list_shapes
from kvsim.errors import UsageError

WEIGHT_BITS = {"int8": 8, "int4": 4}
WEIGHT_DTYPES = (*BYTES, *WEIGHT_BITS)
WEIGHT_GROUP, SCALE_BYTES = 128, 2  # inputs that share a scale, and its bytes


def part(size: int, parts: int) -> int:
    """The largest of `parts` parts."""
    return -(-size // parts)


def kv_heads_each(heads: int, kv_heads: int, devices: int) -> int:
    """KV heads that the fullest device holds: those that its heads / devices query heads read.

    >>> kv_heads_each(32, 8, 4), kv_heads_each(32, 8, 16), kv_heads_each(24, 8, 6)
    (2, 1, 2)
    """
    own, group = heads // devices, heads // kv_heads
    return max((i * own + own - 1) // group - i * own // group + 1 for i in range(devices))


def _share_experts(experts: Experts | None, devices: int) -> Experts | None:
    """Every expert, narrower."""
    if experts is None:
        return None
    return replace(experts, d_ff=part(experts.d_ff, devices), d_shared=part(experts.d_shared, devices))


def shard(config: Config, devices: int) -> Config:
    """The model that the fullest of `devices` devices holds. UsageError: the query heads do not divide."""
    if devices == 1:
        return config
    if config.n_heads % devices:
        fitting = [n for n in range(1, min(config.n_heads, 1_024) + 1) if config.n_heads % n == 0]
        raise UsageError(
            "{heads} heads do not split over {devices} devices: use one of {fitting}",
            heads=config.n_heads,
            devices=devices,
            fitting=", ".join(map(str, fitting)),
        )
    layers: dict[LayerKind, LayerKind] = {
        kind: replace(kind, experts=_share_experts(kind.experts, devices)) for kind in set(config.layers)
    }
    return replace(
        config,
        n_heads=config.n_heads // devices,
        n_kv_heads=kv_heads_each(config.n_heads, config.n_kv_heads, devices),
        d_ff=part(config.d_ff, devices),
        vocab_size=part(config.vocab_size, devices),
        layers=tuple(layers[kind] for kind in config.layers),
        encoder=None if config.encoder is None else shard(config.encoder, devices),
    )


def is_quantised(name: str) -> bool:
    """Is the array `name` of `build_weights` one that quantised weights have in fewer bits?"""
    matrix = "layers." in name and name.endswith(".weight") and ".router." not in name
    return matrix and group_of(name) in ("attention", "feed_forward", "experts")


def array_bytes(name: str, shape: tuple[int, ...], bits: int | None, item: int) -> int:
    """Bytes of one array, `item` for a number that is not quantised."""
    if bits is None or not is_quantised(name):
        return prod(shape) * item
    outputs, inputs = shape
    return outputs * (part(inputs * bits, 8) + part(inputs, WEIGHT_GROUP) * SCALE_BYTES)


def measure_weights(config: Config, dtype: str, rest: str) -> int:
    """Bytes of all arrays in `dtype`; where that is int8 or int4, what is not quantised is in `rest`."""
    bits, item = WEIGHT_BITS.get(dtype), BYTES[rest if dtype in WEIGHT_BITS else dtype]
    return sum(array_bytes(name, shape, bits, item) * times for name, shape, times in list_shapes(config))
