"""What ran: the model in a few words, and the work as six numbers."""

from collections.abc import Iterable
from typing import NamedTuple

from kvsim.config import Config
from kvsim.counting.ledger import Ledger
from kvsim.model import Model
from kvsim.transformer.rotary import depends_on_length


class Counts(NamedTuple):
    """The work of one run: score cells and projected rows of one layer (cells for one head of it), the rest of the
    whole model."""

    score_cells: int  # rows × columns of QKᵀ
    useful_cells: int  # of these, the cells that the mask admits
    projected_rows: int  # rows that met a Q, K or V weight, each of the three counted
    macs: int
    useful_macs: int
    flops: int  # 2 · macs

    def __str__(self) -> str:
        return f"{self.score_cells:,} score cells, {self.projected_rows:,} projected rows, {self.macs:,} MACs"

    @classmethod
    def of(cls, ledger: Ledger) -> "Counts":
        """The counts of a ledger, with layer 0's cells and rows."""
        return cls(
            ledger.score_cells(),
            ledger.useful_cells(),
            ledger.projected_rows(),
            ledger.macs,
            ledger.useful_macs,
            ledger.flops,
        )

    @classmethod
    def sum(cls, counts: Iterable["Counts"]) -> "Counts":
        """The sum of several; zeros for none."""
        rows = list(counts)
        return cls(*(sum(column) for column in zip(*rows, strict=True))) if rows else cls(0, 0, 0, 0, 0, 0)


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
