"""Three conventions for counting products; every figure names its own.

square  full matrices, the head on all positions: what `kvsim.count` counts
causal  only the (query, key) pairs that the mask admits, Σ min(i, W) in a layer with a window W; the head on all
        positions: `useful_macs` of `kvsim.count`
last    causal, the head on the last position of each step: `model(ids, logits="last")`
"""

from collections.abc import Iterable
from typing import Any, Literal

from kvsim.costs.work.counter import Sums
from kvsim.costs.work.forms import Forms, Sites
from kvsim.counting.events import kind_of
from kvsim.counting.ledger import Totals

Convention = Literal["square", "causal", "last"]
CONVENTIONS: tuple[Convention, ...] = ("square", "causal", "last")
ATTENTION = ("scores", "context", "cross_scores", "cross_context")  # every other product is with a weight


def macs_under(totals: Totals, convention: Convention) -> Any:
    """The multiply-accumulates of `totals` that the convention counts: a number, or a polynomial."""
    return totals.macs if convention == "square" else totals.useful_macs


def sites_under(forms: Forms, sites: Sites, convention: Convention, steps: int) -> Sites:
    """The sites that run under the convention, from `sites` with the head on all positions of `steps` steps."""
    return Sums(forms, sites).with_head(steps).sites if convention == "last" and sites else sites


def add_flops(forms: Forms, sites: Iterable[tuple[str, Totals]], convention: Convention) -> Any:
    """FLOPs of these sites in all layers: a number, or a polynomial."""
    return 2 * sum((macs_under(t, convention) * forms.kinds.times(site) for site, t in sites), 0)


def is_attention(site: str) -> bool:
    """Whether the product is queries with keys, or probabilities with values; every other one is with a weight."""
    return kind_of(site) in ATTENTION
