"""The names and shapes of a model's arrays. Loaders, random models and counters all use `build_weights`."""

from collections.abc import Callable

from kvsim.config import Config, Experts, Latent
from kvsim.errors import UsageError
from kvsim.weights import (
    Array,
    Attention,
    Convolution,
    FeedForward,
    Half,
    LatentAttention,
    Layer,
    Linear,
    Mixture,
    Norm,
    Weights,
)

Make = Callable[[str, tuple[int, ...]], Array]
MOST_EXPERTS = 100_000  # of all layers together, where each is built: about four times those of the largest model


class Builder:
    """Builds the weights of `config` with `make(name, shape)`, called once for each array in the order of use.
    `one_expert`: of each mixture only the first expert is built."""

    def __init__(self, config: Config, make: Make, one_expert: bool = False) -> None:
        self.config, self.make, self.one_expert = config, make, one_expert

    def linear(self, name: str, n_out: int, n_in: int, bias: bool) -> Linear:
        weight = self.make(f"{name}.weight", (n_out, n_in))
        return Linear(weight, self.make(f"{name}.bias", (n_out,)) if bias else None)

    def norm(self, name: str, *shape: int, bias: bool | None = None, gain: bool = True) -> Norm:
        biased = self.config.norm == "layer" and self.config.norm_bias if bias is None else bias
        return Norm(
            self.make(f"{name}.gain", shape) if gain else None,
            self.make(f"{name}.bias", shape) if biased and gain else None,
        )

    def model_norm(self, name: str) -> Norm:
        return self.norm(name, self.config.d_model, gain=self.config.norm_gain)

    def half(self, name: str, shared: Half | None = None) -> Half:
        """The norms of one half of a layer; in a parallel layer the second half shares those of the first."""
        kind = self.config.residual
        if kind == "parallel" and shared is not None:
            return shared
        return Half(
            before=None if kind in ("post", "output") else self.model_norm(f"{name}_norm"),
            branch=self.model_norm(f"{name}_branch_norm") if kind in ("sandwich", "output") else None,
            total=self.model_norm(f"{name}_total_norm") if kind == "post" else None,
        )

    def attention(self, at: str) -> Attention:
        c = self.config
        sizes = {"query": c.n_heads * c.d_head, "key": c.n_kv_heads * c.d_head, "value": c.n_kv_heads * c.d_head}
        biases = {"query": c.qkv_bias, "key": c.qkv_bias and c.key_bias, "value": c.qkv_bias}
        query, key, value = (self.linear(f"{at}{n}", sizes[n], c.d_model, biases[n]) for n in sizes)
        norms = {}
        for name, heads in (("query", c.n_heads), ("key", c.n_kv_heads)):
            shapes = {"head": (c.d_head,), "each": (heads, c.d_head), "whole": (heads * c.d_head,)}
            norms[name] = self.norm(f"{at}{name}_norm", *shapes[c.qk_norm], bias=c.qk_norm_bias) if c.qk_norm else None
        return Attention(
            query, key, value,
            self.linear(f"{at}output", c.d_model, c.n_heads * c.d_head, c.out_bias),
            norms["query"], norms["key"],
            self.make(f"{at}sinks", (c.n_heads,)) if c.sinks else None,
        )  # fmt: skip

    def latent(self, at: str, latent: Latent) -> LatentAttention:
        c = self.config
        q_in = latent.q_rank or c.d_model
        return LatentAttention(
            query_down=self.linear(f"{at}query_down", q_in, c.d_model, c.qkv_bias) if latent.q_rank else None,
            query_norm=self.norm(f"{at}query_norm", q_in, bias=False) if latent.q_rank else None,
            query=self.linear(f"{at}query", c.n_heads * (latent.d_nope + latent.d_rope), q_in, bias=False),
            latent=self.linear(f"{at}latent", latent.rank + latent.d_rope, c.d_model, c.qkv_bias),
            latent_norm=self.norm(f"{at}latent_norm", latent.rank, bias=False),
            expand=self.linear(f"{at}expand", c.n_heads * (latent.d_nope + latent.d_value), latent.rank, bias=False),
            output=self.linear(f"{at}output", c.d_model, c.n_heads * latent.d_value, c.out_bias),
        )

    def feed_forward(self, at: str, d_ff: int, bias: bool) -> FeedForward:
        d = self.config.d_model
        return FeedForward(
            gate=self.linear(f"{at}gate", d_ff, d, bias) if self.config.gated else None,
            up=self.linear(f"{at}up", d_ff, d, bias),
            down=self.linear(f"{at}down", d, d_ff, bias),
        )

    def mixture(self, at: str, e: Experts) -> Mixture:
        built = 1 if self.one_expert else e.count
        return Mixture(
            router=self.linear(f"{at}router", e.count, self.config.d_model, e.bias),
            correction=self.make(f"{at}correction", (e.count,)) if e.correction else None,
            experts=tuple(self.feed_forward(f"{at}experts.{i}.", e.d_ff, e.bias) for i in range(built)),
            shared=self.feed_forward(f"{at}shared.", e.d_shared, bias=False) if e.d_shared else None,
        )

    def layer(self, i: int) -> Layer:
        c, at = self.config, f"layers.{i}."
        kind = c.layers[i]
        attention_norms = self.half(f"{at}attention")
        attention = self.latent(at, c.latent) if c.latent else self.attention(at)
        crossed = c.causal and c.encoder is not None
        cross_norms = self.half(f"{at}cross") if crossed else None
        cross = self.attention(f"{at}cross.") if crossed else None
        ff_norms = self.half(f"{at}ff", attention_norms)
        ff = self.mixture(at, kind.experts) if kind.experts else self.feed_forward(at, c.d_ff, c.ff_bias)
        return Layer(attention_norms, attention, cross_norms, cross, ff_norms, ff)

    def convolutions(self) -> tuple[Convolution, ...]:
        c = self.config
        if c.audio is None or c.causal:
            return ()
        widths = ((c.audio.n_mels, "convolutions.0"), (c.d_model, "convolutions.1"))
        return tuple(
            Convolution(self.make(f"{n}.weight", (c.d_model, 3 * width)), self.make(f"{n}.bias", (c.d_model,)))
            for width, n in widths
        )

    def stack(self, encoder: Weights | None) -> Weights:
        c = self.config
        width = c.d_embedding or c.d_model
        tokens = None if c.audio is not None and not c.causal else self.make("tokens", (c.vocab_size, width))
        projected = c.d_embedding is not None
        head = None
        if c.causal:
            bias = self.make("head.bias", (c.vocab_size,)) if c.head_bias else None
            head = Linear(tokens if c.tied_head else self.make("head.weight", (c.vocab_size, width)), bias)
        return Weights(
            tokens=tokens,
            positions=self.make("positions", (c.max_context, c.d_model)) if c.learned_positions else None,
            project_in=self.linear("project_in", c.d_model, width, bias=False) if projected else None,
            embedding_norm=self.model_norm("embedding_norm") if c.embedding_norm else None,
            convolutions=self.convolutions(),
            buckets=self.make("buckets", (c.buckets.count, c.n_heads)) if c.buckets else None,
            layers=tuple(self.layer(i) for i in range(c.n_layers)),
            final_norm=self.model_norm("final_norm") if c.final_norm else None,
            project_out=self.linear("project_out", width, c.d_model, bias=False) if projected else None,
            head=head,
            encoder=encoder,
        )


def _check_experts(config: Config) -> None:
    """UsageError: more experts than can be built one by one."""
    count = sum(kind.experts.count for kind in config.layers if kind.experts is not None)
    if count > MOST_EXPERTS:
        raise UsageError(
            "the model has {count} experts: more than {most} are counted, as by kvsim.count, and not run",
            count=count,
            most=MOST_EXPERTS,
        )


def build_weights(config: Config, make: Make, *, one_expert: bool = False) -> Weights:
    """All arrays of `config`, each made by `make(name, shape)`.

    Names are `tokens`, `positions`, `layers.3.query.weight`, `layers.3.attention_norm.gain`,
    `layers.3.experts.0.up.weight`, `final_norm.bias`, `head.weight` and so on; an encoder's begin with
    `encoder.`. `one_expert`: of each mixture only the first expert, which stands for all where arrays are counted.

    UsageError: more experts than can be built one by one.
    """
    if not one_expert:
        _check_experts(config)
    encoder = None
    if config.encoder is not None:
        encoder = Builder(config.encoder, lambda name, shape: make(f"encoder.{name}", shape), one_expert).stack(None)
    return Builder(config, make, one_expert).stack(encoder)
