"""`MatMul`, the event recorded for every matrix product, and the kinds of products."""

import math
from typing import Any, NamedTuple

PROJECTIONS = ("query", "key", "value")  # the kinds whose rows are "projected rows"
SCORES = "scores"  # QKᵀ
KINDS = (
    *PROJECTIONS, SCORES, "context", "output", "gate", "up", "down", "head",
    "cross_query", "cross_key", "cross_value", "cross_scores", "cross_context", "cross_output",
    "query_down", "latent", "expand", "absorb_query", "absorb_value",  # latent attention
    "router", "project_in", "project_out", "convolution",
)  # fmt: skip


COUNTS = ("cells", "useful", "rows", "macs", "flops")  # the quantities that a table can show


def kind_of(site: str) -> str:
    """The last part of a site: "scores" of "layers.3.scores"."""
    return site.rpartition(".")[2]


def layer_of(site: str) -> str:
    """A site without its last part: "layers.3"; a site outside the layers is returned whole."""
    return site.rpartition(".")[0] or site


class MatMul(NamedTuple):
    """`b` products of an [m, k] by a [k, n] matrix, at `site` ("layers.3.scores", "head").

    `useful_macs` counts the MACs of (query, key) pairs that the mask admits; outside attention, all MACs.
    """

    site: str
    b: int
    m: int
    k: int
    n: int
    useful_macs: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates executed."""
        return self.b * self.m * self.k * self.n

    @property
    def flops(self) -> int:
        """Floating-point operations executed: one multiply and one add for each."""
        return 2 * self.macs

    @property
    def kind(self) -> str:
        """The last part of the site: "scores" of "layers.3.scores"."""
        return kind_of(self.site)

    @property
    def layer(self) -> str:
        """The site without its last part: "layers.3"; a site outside the layers is returned whole."""
        return layer_of(self.site)


def make_event(site: str, product: Any, left: Any, admitted: tuple[int, int] | None) -> MatMul:
    """The event of a product of shape `product` [..., m, n] whose left factor has shape `left` [..., m, k]. `admitted`:
    under a mask, the number of (query, key) pairs that it admits and the number of all pairs."""
    *batch, m, n = product
    b, k = math.prod(batch), left[-1]
    macs = useful = b * m * k * n
    if admitted is not None:
        useful = macs // admitted[1] * admitted[0]  # exact: macs is a multiple of all pairs
    return MatMul(site, b, m, k, n, useful)
