"""What a step must execute, from the sizes alone: written without looking at the model."""

from kvsim.config import Config


def step_macs(config: Config, new: int, visible: int, heads_out: int | None = None) -> dict[str, int]:
    """Multiply-accumulates of each site when `new` tokens are fed and each sees `visible` positions.

    A linear layer: rows · inputs · outputs. Attention, for each query head: the scores and the
    weighted sum, new · visible · head size each. The head on `heads_out` positions (all new ones).
    """
    d, f, h, g, k = config.d_model, config.d_ff, config.n_heads, config.n_kv_heads, config.d_head
    layer = {
        "query": new * d * h * k,
        "key": new * d * g * k,
        "value": new * d * g * k,
        "scores": h * new * visible * k,
        "context": h * new * visible * k,
        "output": new * h * k * d,
        **({"gate": new * d * f} if config.gated else {}),
        "up": new * d * f,
        "down": new * f * d,
    }
    sites = {f"layers.{i}.{kind}": macs for i in range(config.n_layers) for kind, macs in layer.items()}
    return sites | {"head": (new if heads_out is None else heads_out) * d * config.vocab_size}


def step_useful_macs(config: Config, new: int, visible: int) -> dict[str, int]:
    """The same with only the pairs that causality admits: query i of `new` sees visible - new + i + 1."""
    pairs = sum(visible - new + i + 1 for i in range(new))
    sites = step_macs(config, new, visible)
    attention = config.n_heads * pairs * config.d_head
    return {site: attention if site.endswith(("scores", "context")) else macs for site, macs in sites.items()}
