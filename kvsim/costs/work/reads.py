"""Which of a model's parameters a step reads, from the list of its arrays (`kvsim.costs.bytes.parameters`)."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kvsim.config import Config, Experts
from kvsim.costs.bytes.parameters import TABLES, list_shapes, shares_tokens

SOURCE_PROJECTIONS = (".cross.key", ".cross.value")  # read when keys and values of the source are computed


class Mixed(NamedTuple):
    """One array of each expert of a mixture: `one` is the size of one expert's, in all layers of that kind."""

    experts: Experts
    one: int

    def read(self, rows: Any) -> Any:
        """Numbers that `rows` tokens read: exact for one token, for more an upper bound, since each token may choose
        other experts."""
        return self.one * min(self.experts.count, rows * self.experts.chosen)


@dataclass
class Stack:
    """Parameters of the decoder or of the encoder, by how they are read."""

    whole: int = 0  # read by every step
    row: int = 0  # one row of each look-up table
    cross: int = 0  # projections of the source to keys and values
    mixed: list[Mixed] = field(default_factory=list)

    def read(self, rows: Any) -> Any:
        """Numbers that a step of `rows` tokens reads, without the projections of the source."""
        return self.whole + self.row * rows + sum((m.read(rows) for m in self.mixed), 0)


@dataclass(frozen=True)
class Reads:
    """Parameters of a model, by how a step reads them."""

    decoder: Stack
    encoder: Stack
    tied: int  # size of a head that is the token table: read whole by every step

    def read(self, rows: Any) -> Any:
        """Numbers that the decoder reads in a step of `rows` tokens, without the projections of the source."""
        return self.decoder.read(rows) + self.tied

    def read_source(self, rows: int) -> int:
        """Numbers that the encoder reads for `rows` positions."""
        return int(self.encoder.read(rows))

    @property
    def routed(self) -> bool:
        """Whether tokens choose among experts, so that `read` of several tokens is an upper bound."""
        return any(m.experts.chosen < m.experts.count for m in (*self.decoder.mixed, *self.encoder.mixed))


def count_reads(config: Config) -> Reads:
    """The parameters of `config`, by how a step reads them."""
    decoder, encoder = Stack(), Stack()
    tied, shared = 0, shares_tokens(config)
    for array in list_shapes(config):
        stack = encoder if array.in_encoder else decoder
        if array.place in TABLES:
            stack.row += array.shape[1]
            if array.name == "tokens":
                tied = array.size if config.tied_head else 0
                encoder.row += array.shape[1] if shared else 0
        elif array.experts is not None:
            stack.mixed.append(Mixed(array.experts, array.size))
        elif any(projection in array.place for projection in SOURCE_PROJECTIONS):
            stack.cross += array.size
        else:
            stack.whole += array.size
    return Reads(decoder, encoder, tied)
