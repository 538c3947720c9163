"""One mistake shown by itself: a decoder, or an attention function, that makes it, and what the oracle says of that."""

from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.attention_calls import Inputs, attend
from kvsim.testing.attention_check import assert_attention
from kvsim.testing.bank import Mistake
from kvsim.testing.failing import OracleError
from kvsim.testing.model_weights import make_weights
from kvsim.testing.splitting import assert_policy


def show_mistake(mistake: Mistake, heads: int, kv_heads: int, window: int | None, attention: bool, seed: int) -> str:
    """What the oracle prints of the first reading; "" where it shows in nothing, or the policy is not there."""
    window = mistake.window if window is None else window
    try:
        if attention and mistake.attention_variants():
            _attention(mistake.attention_variants()[0], heads, kv_heads, window, seed)
        else:
            _decoder(mistake, heads, kv_heads, window, seed)
    except OracleError as error:
        return str(error)
    except UsageError as error:
        if "unknown cache" not in str(error):
            raise
    return ""


def _attention(cls: Any, heads: int, kv_heads: int, window: int | None, seed: int) -> None:
    one = cls.bare(None)

    def wrong(q: Any, k: Any, v: Any, window: int | None = None) -> Any:
        return attend(one, Inputs(q, k, v), window)

    assert_attention(wrong, heads=heads, kv_heads=kv_heads, window=window, seed=seed)


def _decoder(mistake: Mistake, heads: int, kv_heads: int, window: int | None, seed: int) -> None:
    weights = make_weights(heads=heads, kv_heads=kv_heads, window=window, seed=seed)
    config, arrays = weights.config.to_config(), weights.to_weights()
    held: dict[str, Any] = {}

    def make() -> Any:
        first = "decoder" not in held
        held["decoder"] = mistake.variants[0](config, arrays, mistake.policy) if first else held["decoder"].fresh()
        return held["decoder"]

    def step(decoder: Any, ids: list[int]) -> Any:
        with np.errstate(all="ignore"):
            return decoder.forward(ids)

    assert_policy(make, step, weights, mistake.policy, seed=seed)
