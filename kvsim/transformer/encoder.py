"""The encoder of an encoder-decoder: the decoder's stack without a causal mask, run once."""

from kvsim.arrays import Array
from kvsim.config import Config
from kvsim.ops import Ops
from kvsim.spans import Span
from kvsim.transformer.attention import LayerCache, Sequence
from kvsim.transformer.decoder import embed, run_layers
from kvsim.weights import Convolution, Weights


def convolve(ops: Ops, w: Convolution, x_TD: Array, stride: int) -> Array:
    """A convolution of width 3 over the rows of x, padded with one row of zeros on either side, as one matrix
    product: each row of its left factor holds the three input rows of one output."""
    xp = ops.xp
    zeros_1D = xp.zeros_like(x_TD[:1, :])
    padded = xp.concat([zeros_1D, x_TD, zeros_1D], axis=0)
    n_rows = x_TD.shape[0]
    taps = [padded[k : k + n_rows : stride, :] for k in range(3)]
    # The kernel is stored innermost: [out, in, 3].
    patches = xp.reshape(xp.stack(taps, axis=-1), (taps[0].shape[0], 3 * x_TD.shape[1]))
    return ops.matmul("convolution", patches, xp.matrix_transpose(w.weight)) + w.bias


def read_audio(ops: Ops, config: Config, weights: Weights, features: Array) -> Array:
    """Features [mels, frames] through both convolutions: [frames / 2, D]."""
    x_TD = ops.xp.matrix_transpose(features)
    for w, stride in zip(weights.convolutions, (1, 2), strict=True):
        x_TD = ops.activate("gelu", convolve(ops, w, x_TD, stride))
    return x_TD


def encode(ops: Ops, config: Config, weights: Weights, source: Array, layers: tuple[LayerCache, ...]) -> Array:
    """The source's ids [S], or its features [mels, frames], as vectors [S, D]."""
    with ops.at("encoder"):
        if config.audio is not None:
            x_SD = read_audio(ops, config, weights, source)
        else:
            x_SD = embed(ops, config, weights, source)
        rows = x_SD.shape[0]
        sequence = Sequence(slice(0, rows), Span(0, rows), layers)
        return run_layers(ops, config, weights, x_SD, [sequence])
