"""The feed-forward layer: down(act(up x)), or gated (arXiv:2002.05202): down(act(gate x) · up x)."""

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.weights import FeedForward


def feed_forward(ops: Ops, config: Config, w: FeedForward, x_TD: Array) -> Array:
    """[T, D] to [T, D], each token by itself."""
    if w.gate is None:
        hidden_TF = ops.activate(config.activation, ops.linear("up", x_TD, w.up))
    else:
        gate_TF = ops.activate(config.activation, ops.linear("gate", x_TD, w.gate))
        hidden_TF = gate_TF * ops.linear("up", x_TD, w.up)
    return ops.linear("down", hidden_TF, w.down)
