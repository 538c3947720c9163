"""How many numbers a model's arrays hold, and which of them a step reads.

Told from the one list of names and shapes (`kvsim.blueprint`), a layer of each kind standing for all like it.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from kvsim.blueprint import build_weights
from kvsim.config import Config, Experts
from kvsim.costs.bytes.parameters import shares_tokens
from kvsim.costs.work.forms import reduce_config

TABLES = ("tokens", "positions")  # of which a step reads one row for each token
MADE_OF_SOURCE = (".cross.key", ".cross.value")  # cross-attention's, read where its keys and values are made


class Mixed(NamedTuple):
    """An array that every expert of a mixture has: the numbers of one expert's, in all layers of that kind."""

    experts: Experts
    one: int

    def read(self, rows: Any) -> Any:
        """Numbers read at most when `rows` tokens choose: for one token exactly, for more each could choose others."""
        return self.one * min(self.experts.count, rows * self.experts.chosen)


@dataclass
class Stack:
    """The numbers of the decoder or of the encoder, by how they are read."""

    whole: int = 0  # at every step
    row: int = 0  # one row of each table
    tables: int = 0  # all rows
    cross: int = 0  # to make keys and values of the source
    mixed: list[Mixed] = field(default_factory=list)

    def read(self, rows: Any) -> Any:
        """Numbers that a step reads for `rows` tokens, keys and values of the source not made."""
        return self.whole + self.row * rows + sum((m.read(rows) for m in self.mixed), 0)

    @property
    def total(self) -> int:
        return self.whole + self.tables + self.cross + sum(m.one * m.experts.count for m in self.mixed)

    @property
    def idle(self) -> int:
        """Numbers of the experts that a token does not choose."""
        return sum(m.one * (m.experts.count - m.experts.chosen) for m in self.mixed)


@dataclass(frozen=True)
class Reads:
    """A model's numbers. Embeddings are the tables that are looked up by id or position, a tied head's among them."""

    decoder: Stack
    encoder: Stack
    tied: int  # the head that is the token table: read whole by every step, stored once

    @property
    def total(self) -> int:
        """All, a tied head once."""
        return self.decoder.total + self.encoder.total

    @property
    def active(self) -> int:
        """Without the experts that a token does not choose."""
        return self.total - self.decoder.idle - self.encoder.idle

    @property
    def embeddings(self) -> int:
        return self.decoder.tables + self.encoder.tables

    def read(self, rows: Any) -> Any:
        """Numbers that the decoder reads in a step of `rows` tokens, keys and values of the source not made."""
        return self.decoder.read(rows) + self.tied

    def read_source(self, rows: int) -> int:
        """Numbers that the encoder reads for `rows` positions."""
        return int(self.encoder.read(rows))

    @property
    def choosy(self) -> bool:
        """Do tokens choose among experts? How many a step of several reads is data then: `read` says at most."""
        return any(m.experts.chosen < m.experts.count for m in (*self.decoder.mixed, *self.encoder.mixed))


def count_arrays(config: Config) -> Reads:
    """The numbers of every array of `config`, by how they are read."""
    kinds = reduce_config(config, 0, 0)
    decoder, encoder = Stack(), Stack()
    tied, shared = 0, shares_tokens(config)

    def add(name: str, shape: tuple[int, ...]) -> None:
        nonlocal tied
        inside = name.startswith("encoder.")
        stack, place = (encoder, name.removeprefix("encoder.")) if inside else (decoder, name)
        size = prod(shape) * kinds.times(name)
        if place in TABLES:
            stack.row += shape[1]
            stack.tables += 0 if inside and place == "tokens" and shared else size  # one array, counted once
            if place == "tokens" and config.tied_head and not inside:
                tied = size
        elif ".experts." in place:
            layer, number = int(place.split(".")[1]), int(place.split(".")[3])
            part = kinds.config.encoder if inside else kinds.config
            experts = None if part is None else part.layers[layer].experts
            assert experts is not None
            if number == 0:  # they are all alike
                stack.mixed.append(Mixed(experts, size))
        elif any(made in place for made in MADE_OF_SOURCE):
            stack.cross += size
        else:
            stack.whole += size

    build_weights(kinds.config, add)
    return Reads(decoder, encoder, tied)
