"""The answer of `kvsim chat`: the turns of a script, their totals, and their JSON."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from kvsim.comparisons.agreement_record import show_agreement
from kvsim.comparisons.conversation_record import Turn, Work
from kvsim.comparisons.counts import Counts
from kvsim.schemas import dump, stamp
from kvsim.schemas.display import mimebundle
from kvsim.text import Piece, one_line

Kind = Literal["turn", "fork", "edit"]


class Line(NamedTuple):
    """One turn of a script."""

    kind: Kind  # a turn, a fork that branches off after turn `at`, or an edit that replaces turn `at`
    at: int
    turn: Turn

    def __repr__(self) -> str:
        return one_line(f"<Line {self.kind} {self.at}: {self.turn}>")


class Totals(NamedTuple):
    """The work of each run, summed over turns."""

    reused: Counts
    fresh: Counts

    def __repr__(self) -> str:
        return one_line(f"<Totals {self.reused}; without reuse {self.fresh}>")


@dataclass(frozen=True)
class Chat:
    """The turns of a script: those of the conversation, then forks, then edits."""

    model: dict[str, Any]  # name, layers, heads, kv_heads, d_head
    cache: str
    lossless: bool
    backend: str
    dtype: str
    separator: str
    lines: tuple[Line, ...]
    by_length: str | None  # the kind of rotary positions whose frequencies depend on the length, if any
    pieces: tuple[Piece, ...] = ()  # the texts of all ids, each once, if they were asked for

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        what = f"turns {len(self.lines):,}, model {self.model['name']}, cache {self.cache}"
        return one_line(f"<Chat {what}, {show_agreement(self.agrees)}>")

    @property
    def totals(self) -> Totals:
        """The sums of all lines."""
        turns = [line.turn for line in self.lines]
        return Totals(Counts.sum(t.reused.counts for t in turns), Counts.sum(t.fresh.counts for t in turns))

    def conversation(self, number: int) -> list[int]:
        """The lines, from 0, of the conversation when line `number` came: with the turns that an edit drops."""
        path: list[int] = []
        for i, line in enumerate(self.lines[:number]):
            if line.kind != "fork":
                path = [*(path[: line.at - 1] if line.kind == "edit" else path), i]
        at = self.lines[number].at
        return path[:at] if self.lines[number].kind == "fork" else path

    def before(self, number: int) -> list[int]:
        """The lines, from 0, that the turn of line `number` follows: an edit follows those before the one that it
        replaces."""
        line, path = self.lines[number], self.conversation(number)
        return path[: line.at - 1] if line.kind == "edit" else path

    @property
    def unknown(self) -> list[str]:
        """Pieces of the texts that are not in the vocabulary, each once."""
        return list(dict.fromkeys(piece for line in self.lines for piece in line.turn.unknown))

    @property
    def wrong(self) -> list[Line]:
        """Turns of a lossless cache whose logits differ from those of a new cache by more than rounding."""
        return [line for line in self.lines if self.lossless and not line.turn.agrees]

    @property
    def agrees(self) -> bool:
        """Is no turn wrong, or do turns differ by design (`by_length`)?"""
        return not self.wrong or self.by_length is not None

    def to_dict(self) -> dict[str, Any]:
        """As `kvsim.chat/1` (see `kvsim schema chat`)."""
        return {
            **stamp("chat"),
            "model": self.model,
            "cache": self.cache,
            "lossless": self.lossless,
            "backend": self.backend,
            "dtype": self.dtype,
            "separator": self.separator,
            "unknown": self.unknown,
            "turns": [_line_dict(line) for line in self.lines],
            "totals": {name: counts._asdict() for name, counts in self.totals._asdict().items()},
            "by_length": self.by_length,
            "agrees": self.agrees,
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text: UTF-8 characters unescaped, integers exact."""
        return dump(self.to_dict())


def _work_dict(work: Work) -> dict[str, int]:
    return {**work.counts._asdict(), "kv_bytes": work.kv_bytes, "allocated_bytes": work.allocated_bytes}


def _line_dict(line: Line) -> dict[str, Any]:
    turn = line.turn
    return {
        "kind": line.kind,
        "at": line.at,
        "number": turn.number,
        "text": turn.text,
        "reply": turn.reply,
        "ids": list(turn.ids),
        "reply_ids": list(turn.reply_ids),
        "cached": turn.cached,
        "new": turn.new,
        "reused": _work_dict(turn.reused),
        "fresh": _work_dict(turn.fresh),
        "max_abs_diff": turn.max_abs_diff,
        "allowed_diff": turn.allowed_diff,
        "agrees": turn.agrees,
        "identical": turn.identical,
        "restart": None if turn.restart is None else str(turn.restart),
    }
