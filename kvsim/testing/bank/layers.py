"""Mistakes between layers: what a layer reads, norms that are skipped, biases that are left out."""

from typing import Any

from kvsim.testing.bank.mistake import mistake, variant
from kvsim.testing.bank.paths import CACHED, FIRST, SEVERAL, SINGLE, along
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.weights import Attention, Layer, Norm


@mistake(
    "layer_input_is_embedding",
    "every layer reads the embeddings: a layer must read the output of the layer before",
    "每一层读的都是词嵌入：应读上一层的输出",
    (1,),
    paths=(SINGLE, SEVERAL, CACHED),
)
class ReadsEmbedding(Decoder):
    embedded: list[Any]

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        self.embedded = x if layer == 0 else self.embedded
        return super().block(layer, w, self.embedded, start)


@variant("layer_input_is_embedding", paths=(SINGLE, SEVERAL, CACHED))
class KeysOfEmbedding(Decoder):
    """Keys and values only."""

    embedded: list[Any]

    def block(self, layer: int, w: Layer, x: list[Any], start: int) -> list[Any]:
        self.embedded = x if layer == 0 else self.embedded
        self.normed = [self.norm(row, w.attention_norms.before) for row in self.embedded]
        return super().block(layer, w, x, start)

    def attention(self, layer: int, w: Attention, x: list[Any], start: int) -> list[Any]:
        q = [self.project(w.query, row) for row in x]
        k = [self.project(w.key, row) for row in self.normed]
        v = [self.project_value(w, row) for row in self.normed]
        parts = self.rows[layer].update(start, q, k, v, self.rotary_positions(layer, start, len(x)))
        return [self.linear(row, w.output) for inputs in parts for row in self.attend(inputs)]


@variant("layer_input_is_embedding", paths=(SINGLE, SEVERAL, CACHED))
class AttentionOfEmbedding(KeysOfEmbedding):
    """Queries too; what attention gives is added to the output of the layer before."""

    def attention(self, layer: int, w: Attention, x: list[Any], start: int) -> list[Any]:
        return super().attention(layer, w, self.normed, start)


class NormSkipped(Decoder):
    """Without the norms of `kind`."""

    kind = "attention"

    def norm(self, x: Any, w: Norm | None) -> Any:
        layers = self.weights.layers
        norms = {
            "attention": [layer.attention_norms.before for layer in layers],
            "feed-forward": [layer.ff_norms.before for layer in layers],
            "final": [self.weights.final_norm],
        }
        return x if any(w is one for one in norms[self.kind]) else super().norm(x, w)


class FeedForwardNormSkipped(NormSkipped):
    kind = "feed-forward"


class FinalNormSkipped(NormSkipped):
    kind = "final"


mistake(
    "norm_skipped_once_cached",
    "once something is cached a norm is skipped: every step needs all of them",
    "缓存里已有内容之后，少做了一次归一化：每一步都应做全部归一化",
    (1, 1),
)(along(NormSkipped, CACHED))
for _cls in (NormSkipped, FeedForwardNormSkipped, FinalNormSkipped):
    for _path in (CACHED, SINGLE, SEVERAL, FIRST):
        if (_cls, _path) != (NormSkipped, CACHED):
            variant("norm_skipped_once_cached")(along(_cls, _path))


class NoBias(Decoder):
    def bias(self, inputs: AttentionInputs) -> Any:
        return 0.0


mistake(
    "alibi_zero_in_decode",
    "the ALiBi bias is 0 in decode steps: it depends on the distance from the query to each key",
    "解码步中的 ALiBi 偏置为 0：偏置取决于查询到每个键的距离",
    (1, 1),
    rope="alibi",
    twin="keras-team/keras-hub#2861",
)(along(NoBias, SINGLE))
variant("alibi_zero_in_decode", paths=(SEVERAL, CACHED))(NoBias)


@variant("alibi_zero_in_decode")
class DistanceInsideStep(Decoder):
    """Cached keys are at the distance of the first key of the step."""

    def bias(self, inputs: AttentionInputs) -> Any:
        return super().bias(inputs._replace(key_pos=inputs.key_pos.clip(self.step[0])))
