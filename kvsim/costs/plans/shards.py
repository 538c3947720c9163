"""The share of a model that one of several devices holds under tensor parallelism (Megatron-LM, arXiv:1909.08053).

A device's share is a model too, with fewer heads, narrower feed-forward layers and experts, and a part of the
vocabulary. Replicated on every device are norms, routers, position tables, biases added after the all-reduce, and the
latents of latent attention with their projections. Widths and vocabularies that do not divide are rounded up, so the
share is that of the fullest device; query heads must divide. A device holds each KV head that one of its query heads
reads, so KV heads that do not divide are replicated.

Quantised weights are the layers' matrices, in groups of 128 inputs with one float16 scale each (as in GPTQ,
arXiv:2210.17323, and AWQ, arXiv:2306.00978, without zero points); tables, head, norms, routers and biases are not
quantised.
"""

from dataclasses import replace
from math import prod

from kvsim.config import Config, Experts, LayerKind
from kvsim.costs.bytes.parameters import BYTES, group_of, list_shapes
from kvsim.errors import UsageError

WEIGHT_BITS = {"int8": 8, "int4": 4}
WEIGHT_DTYPES = (*BYTES, *WEIGHT_BITS)
WEIGHT_GROUP, SCALE_BYTES = 128, 2  # inputs per scale, bytes of a scale


def part(size: int, parts: int) -> int:
    """The size of the largest of `parts` equal parts: `size` / `parts`, rounded up."""
    return -(-size // parts)


def kv_heads_each(heads: int, kv_heads: int, devices: int) -> int:
    """KV heads on the fullest device: those that its `heads` / `devices` query heads read.

    >>> kv_heads_each(32, 8, 4), kv_heads_each(32, 8, 16), kv_heads_each(24, 8, 6)
    (2, 1, 2)
    """
    own, group = heads // devices, heads // kv_heads
    return max((i * own + own - 1) // group - i * own // group + 1 for i in range(devices))


def _share_experts(experts: Experts | None, devices: int) -> Experts | None:
    """The experts with their widths divided."""
    if experts is None:
        return None
    return replace(experts, d_ff=part(experts.d_ff, devices), d_shared=part(experts.d_shared, devices))


def shard(config: Config, devices: int) -> Config:
    """The share of the fullest of `devices` devices, as a model. UsageError: query heads that do not divide."""
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
    """Whether the array `name` of `build_weights` is quantised."""
    matrix = "layers." in name and name.endswith(".weight") and ".router." not in name
    return matrix and group_of(name) in ("attention", "feed_forward", "experts")


def array_bytes(name: str, shape: tuple[int, ...], bits: int | None, item: int) -> int:
    """Bytes of one array with weights of `bits` bits (None: not quantised) and others of `item` bytes a number."""
    if bits is None or not is_quantised(name):
        return prod(shape) * item
    outputs, inputs = shape
    return outputs * (part(inputs * bits, 8) + part(inputs, WEIGHT_GROUP) * SCALE_BYTES)


def measure_weights(config: Config, dtype: str, rest: str) -> int:
    """Bytes of all arrays in `dtype`; with int8 or int4, the arrays that are not quantised are in `rest`."""
    bits, item = WEIGHT_BITS.get(dtype), BYTES[rest if dtype in WEIGHT_BITS else dtype]
    return sum(array_bytes(array.name, array.shape, bits, item) * array.times for array in list_shapes(config))
