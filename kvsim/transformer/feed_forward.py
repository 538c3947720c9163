"""The feed-forward layer: down(act(up x)), or gated (arXiv:2002.05202): down(act(gate x) · up x)."""

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.weights import FeedForward


def feed_forward(ops: Ops, config: Config, w: FeedForward, x_ND: Array) -> Array:
    """[N, D] to [N, D], row by row: all new tokens, or those routed to one expert."""
    if w.gate is None:
        hidden_NF = ops.activate(config.activation, ops.linear("up", x_ND, w.up))
    else:
        gate_NF, up_NF = ops.linear("gate", x_ND, w.gate), ops.linear("up", x_ND, w.up)
        clipped = config.activation == "clipped_swiglu"
        hidden_NF = ops.clipped_swiglu(gate_NF, up_NF) if clipped else ops.gated(config.activation, gate_NF, up_NF)
    return ops.linear("down", hidden_NF, w.down)
