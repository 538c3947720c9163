"""Every cache policy: what it keeps, whether it is lossless, and the bytes of a token, without data or weights."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.arrays import get_backend
from kvsim.caches import new_cache
from kvsim.caches.offload import OffloadLayer
from kvsim.caches.specs import POLICIES, find_policy, parse_spec
from kvsim.config import Config
from kvsim.costs.bytes.kinds import Kinds, reduce_config
from kvsim.costs.public.models import find_config
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops
from kvsim.schemas import stamp
from kvsim.schemas.display import mimebundle


class PolicyFacts(NamedTuple):
    """One policy with the options of its example, for one model."""

    name: str
    example: str  # a spec
    lossless: bool  # whether it gives the logits of a run without a cache, for this model
    promise: Words
    paper: str
    row_bytes: Fraction | None  # of a token in all layers, while it is kept; None: the model is unsupported
    refusal: UsageError | None = None  # why the model is unsupported


class Policies(NamedTuple):
    """All policies for one model."""

    model: str
    dtype: str
    facts: tuple[PolicyFacts, ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return mimebundle(self, include, exclude)

    def __repr__(self) -> str:
        return f"Policies({self.model!r:.40}, dtype={self.dtype!r}, facts={len(self.facts)})"

    def to_dict(self) -> dict[str, Any]:
        """The record of `kvsim caches --json` (see `kvsim schema caches`)."""
        return {
            **stamp("caches"),
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


def _row_bytes(spec: str, kinds: Kinds, ops: Ops) -> Fraction:
    """Bytes of a token in all layers, summed over the layers' own policies: a layer with a window may have another one
    than the model's. UsageError: the policy does not support the model."""
    total = Fraction(0)
    for layer, members in zip(new_cache(spec, kinds.config, ops).layers, kinds.members, strict=True):
        kept = layer.layer if isinstance(layer, OffloadLayer) else layer
        total += len(members) * kept.row_bytes(ops, kept.shape, kept.options)
    return total


def _describe(name: str, config: Config, kinds: Kinds, ops: Ops) -> PolicyFacts:
    policy = find_policy(name)
    size, refusal = None, None
    try:
        size = _row_bytes(policy.example, kinds, ops)
    except UsageError as error:
        refusal = error
    lossless = policy.is_lossless(config, parse_spec(policy.example).options)
    return PolicyFacts(name, policy.example, lossless, policy.promise, policy.paper, size, refusal)


def list_policies(model: str | Path | Config = "demo", dtype: str = "float32") -> Policies:
    """Every policy of `kvsim.caches`, with the exact bytes of a token of self-attention in all layers of `model` (as
    `kvsim.count` takes it) in `dtype`. Bytes of cross-attention are not included.

    UsageError: no such model or dtype. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    backend = get_backend("meta")
    backend.dtype(dtype)
    ops, kinds = Ops(backend, dtype), reduce_config(config)
    return Policies(name, dtype, tuple(_describe(policy, config, kinds, ops) for policy in POLICIES))
