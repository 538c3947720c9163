"""Which products a figure counts: three conventions, of which every figure names its own.

square  what full matrices execute, the head on all positions: what `kvsim.count` counts
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


def counted(totals: Totals, convention: Convention) -> Any:
    """The multiply-accumulates that a convention counts of the products it lets run."""
    return totals.macs if convention == "square" else totals.useful_macs


def run_sites(forms: Forms, sites: Sites, convention: Convention, steps: int) -> Sites:
    """The products that run under a convention, of sites that have the head on all positions of `steps` steps."""
    return Sums(forms, sites).with_head(steps).sites if convention == "last" and sites else sites


def add_flops(forms: Forms, sites: Iterable[tuple[str, Totals]], convention: Convention) -> Any:
    """FLOPs of these sites in all layers: a number, or a polynomial."""
    return 2 * sum((counted(t, convention) * forms.kinds.times(site) for site, t in sites), 0)


def is_attention(site: str) -> bool:
    """Queries against keys, or probabilities against values? Every other product is with a weight."""
    return kind_of(site) in ATTENTION
