"""What a comparison's heading says about a model."""

from kvsim.config import Config
from kvsim.model import Model
from kvsim.transformer.rotary import depends_on_length


def describe_model(model: Model) -> dict[str, str | int]:
    """A model's name, layers, heads, KV heads and head size."""
    config = model.config
    return {
        "name": model.name,
        "layers": config.n_layers,
        "heads": config.n_heads,
        "kv_heads": config.n_kv_heads,
        "d_head": config.d_head,
    }


def find_length_dependence(config: Config) -> str | None:
    """The kind of rotary positions whose frequencies depend on the current length, or None.

    Cached keys keep the frequencies of the length at which they were cached, so that logits depend on how the tokens
    are cut into steps.
    """
    return next((kind.rope.kind for kind in config.layers if kind.rope and depends_on_length(kind.rope)), None)
