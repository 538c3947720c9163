"""The event that every matrix product leaves, and the nouns that its place may have."""

import math
from typing import Any, NamedTuple

PROJECTIONS = ("query", "key", "value")  # whose rows are the projected rows
SCORES = "scores"  # QKᵀ
KINDS = (
    *PROJECTIONS, SCORES, "context", "output", "gate", "up", "down", "head",
    "cross_query", "cross_key", "cross_value", "cross_scores", "cross_context", "cross_output",
    "query_down", "latent", "expand", "absorb_query", "absorb_value",  # latent attention
    "router", "project_in", "project_out", "convolution",
)  # fmt: skip


COUNTS = ("cells", "useful", "rows", "macs", "flops")  # what a table can count


def kind_of(site: str) -> str:
    """The last noun of a site: "scores" of "layers.3.scores"."""
    return site.rpartition(".")[2]


def layer_of(site: str) -> str:
    """A site without its last noun: "layers.3"; one outside the layers is its own."""
    return site.rpartition(".")[0] or site


class MatMul(NamedTuple):
    """`b` products of an [m, k] by a [k, n] matrix, at `site` ("layers.3.scores", "head").

    `useful_macs` are those of the (query, key) pairs that the mask admits; all of them elsewhere.
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
        """The last noun of the site: "scores" of "layers.3.scores"."""
        return kind_of(self.site)

    @property
    def layer(self) -> str:
        """The site without its last noun: "layers.3"; a site outside the layers is its own."""
        return layer_of(self.site)


def make_event(site: str, product: Any, left: Any, admitted: tuple[int, int] | None) -> MatMul:
    """The event of a product [..., m, n] of `left` [..., m, k], from both shapes. `admitted`: how many (query, key)
    pairs the mask admits, of how many."""
    *batch, m, n = product
    b, k = math.prod(batch), left[-1]
    macs = useful = b * m * k * n
    if admitted is not None:
        useful = macs // admitted[1] * admitted[0]  # of as many matrices as there are
    return MatMul(site, b, m, k, n, useful)
