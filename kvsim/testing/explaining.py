"""One mistake shown by itself: a decoder, or an attention function, that makes it, and what the oracle says of that."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.bank import Mistake
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.checks.decoders import assert_policy
from kvsim.testing.subject.attention import Inputs, attend
from kvsim.testing.subject.weights import make_weights
from kvsim.testing.verdict.error import OracleError


@dataclass(frozen=True)
class Asked:
    """On what a mistake is shown. `show`: (queries, keys) of the attention function; None: in a decoder."""

    heads: int = 4
    kv_heads: int = 2
    window: int | None = None  # None: what the mistake needs
    d_head: int = 8
    layers: int = 2
    batch: int = 2
    rotated: bool = False
    cases: int = 0
    reading: int = 1
    show: tuple[int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        queries, keys = self.show or (1, 1)
        if min(self.seed, self.cases) < 0 or not 1 <= queries <= keys:
            raise UsageError(
                "seed and cases are at least 0, queries at least 1 and at most as many as keys: got {seed}, {cases},"
                " {queries} and {keys}", seed=self.seed, cases=self.cases, queries=queries, keys=keys,
            )  # fmt: skip


def show_mistake(mistake: Mistake, asked: Asked) -> str:
    """What the oracle prints of it; "" where it shows in nothing, or the policy is not there. UsageError: sizes that
    make no sense, or no such reading."""
    window = mistake.window if asked.window is None else asked.window
    alone = mistake.attention_variants() if asked.show else []
    readings = alone or mistake.variants
    if not 1 <= asked.reading <= len(readings):
        raise UsageError("{id} has {count} readings, got {got}", id=mistake.id, count=len(readings), got=asked.reading)
    cls = readings[asked.reading - 1]
    try:
        if alone:
            _attention(cls, asked, window)
        else:
            _decoder(mistake, cls, asked, window)
    except OracleError as error:
        return str(error)
    except UsageError as error:
        if "unknown cache" not in str(error):
            raise
    return ""


def _attention(cls: Any, asked: Asked, window: int | None) -> None:
    one = cls.bare(None)

    def wrong(q: Any, k: Any, v: Any, window: int | None = None) -> Any:
        return attend(one, Inputs(q, k, v), window)

    assert_attention(
        wrong, heads=asked.heads, kv_heads=asked.kv_heads, d_head=asked.d_head, window=window, batch=asked.batch,
        cases=asked.cases, seed=asked.seed, rotated=asked.rotated, show=asked.show,
    )  # fmt: skip


def _decoder(mistake: Mistake, cls: Any, asked: Asked, window: int | None) -> None:
    weights = make_weights(layers=asked.layers, heads=asked.heads, kv_heads=asked.kv_heads, d_head=asked.d_head,
                           window=window, seed=asked.seed)  # fmt: skip
    config, arrays = weights.config.to_config(), weights.to_weights()
    held: dict[str, Any] = {}

    def make() -> Any:
        first = "decoder" not in held
        held["decoder"] = cls(config, arrays, mistake.policy) if first else held["decoder"].fresh()
        return held["decoder"]

    def step(decoder: Any, ids: list[int]) -> Any:
        with np.errstate(all="ignore"):
            return decoder.forward(ids)

    assert_policy(make, step, weights, mistake.policy, cases=asked.cases, seed=asked.seed)
