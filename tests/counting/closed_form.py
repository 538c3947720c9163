"""The multiply-accumulates of a step as closed forms of the sizes, written independently of the model's code."""

from kvsim.config import Config


def attention_macs(config: Config, new: int, visible: int) -> dict[str, int]:
    """{kind: MACs} of one attention layer. Projections: rows · inputs · outputs. Scores and weighted sum, for each
    query head: new · visible · head size each."""
    d, h, g, k = config.d_model, config.n_heads, config.n_kv_heads, config.d_head
    if config.latent is None:
        return {
            "query": new * d * h * k,
            "key": new * d * g * k,
            "value": new * d * g * k,
            "scores": h * new * visible * k,
            "context": h * new * visible * k,
            "output": new * h * k * d,
        }
    rank, q_rank, nope, rope, value = (
        config.latent.rank, config.latent.q_rank, config.latent.d_nope, config.latent.d_rope, config.latent.d_value,
    )  # fmt: skip
    sites = {
        "query": new * (q_rank or d) * h * (nope + rope),
        "latent": new * d * (rank + rope),
        "output": new * h * value * d,
        **({"query_down": new * d * q_rank} if q_rank else {}),
    }
    if config.latent.form == "absorbed":
        return sites | {
            "absorb_query": h * new * nope * rank,
            "scores": h * new * visible * (rank + rope),
            "context": h * new * visible * rank,
            "absorb_value": h * new * rank * value,
        }
    expanded = visible if config.latent.form == "reexpanded" else new
    return sites | {
        "expand": expanded * rank * h * (nope + value),
        "scores": h * new * visible * (nope + rope),
        "context": h * new * visible * value,
    }


def ff_macs(config: Config, layer: int, new: int) -> dict[str, int]:
    """{kind: MACs} of one feed-forward layer: dense; or the router, each token's chosen experts and the shared one."""
    d, experts = config.d_model, config.layers[layer].experts
    width = config.d_ff if experts is None else experts.chosen * experts.d_ff + experts.d_shared
    sites = {"up": new * d * width, "down": new * d * width}
    if config.gated:
        sites["gate"] = new * d * width
    if experts is not None:
        sites["router"] = new * d * experts.count
    return sites


def step_macs(
    config: Config, new: int, stop: int, heads_out: int | None = None, keeps_window: bool = False
) -> dict[str, int]:
    """Multiply-accumulates of each kind of product in each layer ("0.scores"), when `new` tokens are fed and
    the sequence then has `stop`. The head runs on `heads_out` positions (default: all new ones). `keeps_window`:
    the cache returns only the keys of a layer's window and the new ones."""
    sites = {}
    for layer, kind in enumerate(config.layers):
        visible = stop
        if keeps_window and kind.window is not None:
            visible = min(stop - new, kind.window - 1) + new
        for name, macs in (attention_macs(config, new, visible) | ff_macs(config, layer, new)).items():
            sites[f"{layer}.{name}"] = macs
    return sites | {"head": (new if heads_out is None else heads_out) * config.d_model * config.vocab_size}


def step_useful_macs(config: Config, new: int, stop: int, keeps_window: bool = False) -> dict[str, int]:
    """step_macs with only the pairs that causality and window admit: the query at position p sees
    min(p + 1, window) keys."""
    sites = step_macs(config, new, stop, keeps_window=keeps_window)
    for layer, kind in enumerate(config.layers):
        pairs = sum(min(stop - i, kind.window or stop) for i in range(new))
        per_pair = attention_macs(config, 1, 1)
        for name in ("scores", "context"):
            sites[f"{layer}.{name}"] = pairs * per_pair[name]
    return sites
