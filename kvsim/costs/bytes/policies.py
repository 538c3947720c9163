"""What each cache policy promises, and what a token costs in it: no data, no weights."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from kvsim import __version__
from kvsim.arrays import get_backend
from kvsim.caches import new_cache
from kvsim.caches.offload import OffloadLayer
from kvsim.caches.specs import POLICIES, find_policy, parse_spec
from kvsim.config import Config
from kvsim.costs.public.models import find_config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops

SCHEMA = "kvsim.caches/1"


class PolicyFacts(NamedTuple):
    """One policy, as its example has it, for one model."""

    name: str
    example: str  # a spec
    lossless: bool  # the logits of a run without a cache, for this model?
    promise: Words
    paper: str
    row_bytes: Fraction | None  # of a token in all layers, as long as it is kept; None: it does not fit the model
    refusal: UsageError | None = None  # why it does not fit


class Policies(NamedTuple):
    """All policies for one model."""

    model: str
    dtype: str
    facts: tuple[PolicyFacts, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `kvsim.caches/1` (see `kvsim schema caches`)."""
        return {
            "schema": SCHEMA,
            "kvsim": __version__,
            "model": self.model,
            "dtype": self.dtype,
            "policies": [_fact_dict(fact) for fact in self.facts],
        }


def _fact_dict(fact: PolicyFacts) -> dict[str, Any]:
    size = fact.row_bytes
    return {
        "name": fact.name,
        "example": fact.example,
        "lossless": fact.lossless,
        "promise": str(fact.promise),
        "paper": fact.paper,
        "bytes_per_token": None if size is None else {"numerator": size.numerator, "denominator": size.denominator},
        "refusal": None if fact.refusal is None else str(fact.refusal),
    }


def _row_bytes(spec: str, config: Config, ops: Ops) -> Fraction:
    """Bytes of a token in all layers: each layer is asked, since those with a window of their own may be of another
    kind than the policy's. UsageError: the policy does not fit the model."""
    layers = new_cache(spec, config, ops).layers
    kept = [layer.layer if isinstance(layer, OffloadLayer) else layer for layer in layers]
    return sum((layer.row_bytes(ops, layer.shape, layer.options) for layer in kept), Fraction(0))


def _tell(name: str, config: Config, ops: Ops) -> PolicyFacts:
    policy = find_policy(name)
    size, refusal = None, None
    try:
        size = _row_bytes(policy.example, config, ops)
    except UsageError as error:
        refusal = error
    lossless = policy.is_lossless(config, parse_spec(policy.example).options)
    return PolicyFacts(name, policy.example, lossless, policy.promise, policy.paper, size, refusal)


def list_policies(model: str | Path | Config = "demo", dtype: str = "float32") -> Policies:
    """Every policy of `kvsim.caches`, and the exact bytes of a token of self-attention in all layers of `model` (what
    `kvsim.count` takes), in `dtype`. What cross-attention keeps of a source is not among them.

    UsageError: no such model or dtype. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    backend = get_backend("meta")
    backend.dtype(dtype)
    ops = Ops(backend, dtype)
    return Policies(name, dtype, tuple(_tell(policy, config, ops) for policy in POLICIES))
