"""A conversation from a script: its turns, turns edited and branches, their totals, and their JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kvsim import __version__
from kvsim.comparisons.conversation import Conversation, Turn, Work
from kvsim.comparisons.trace import describe_model
from kvsim.comparisons.trace_record import Counts
from kvsim.errors import FileError, UsageError
from kvsim.generation.plan import check_room
from kvsim.loading.json_file import read_value
from kvsim.model import Model

SCHEMA = "kvsim.chat/1"
LIMIT = 2**20  # bytes of a file of turns
DEFAULT = ("什么是KV缓存？", "床前明月光，", "今天天气", "中华人民")  # the demo model goes on with these

Kind = Literal["turn", "fork", "edit"]
Progress = Callable[[int, int], None]  # turns done, turns in all


class Line(NamedTuple):
    """One turn of a script."""

    kind: Kind  # a turn; one that branches off after turn `at`; one in place of turn `at`
    at: int
    turn: Turn


class Totals(NamedTuple):
    """Of several turns, the work of each run."""

    reused: Counts
    fresh: Counts


@dataclass(frozen=True)
class Chat:
    """What a script came to."""

    model: dict[str, Any]  # name, layers, heads, kv_heads, d_head
    cache: str
    lossless: bool
    backend: str
    dtype: str
    separator: str
    lines: tuple[Line, ...]
    by_length: str | None  # the kind of positions whose frequencies depend on the length, if so

    @property
    def totals(self) -> Totals:
        """Every line."""
        turns = [line.turn for line in self.lines]
        return Totals(Counts.sum(t.reused.counts for t in turns), Counts.sum(t.fresh.counts for t in turns))

    @property
    def unknown(self) -> list[str]:
        """Parts of the texts that the model has never seen, each once."""
        return list(dict.fromkeys(piece for line in self.lines for piece in line.turn.unknown))

    @property
    def wrong(self) -> list[Line]:
        """Turns of a lossless cache whose logits differ from a fresh run's by more than rounding."""
        return [line for line in self.lines if self.lossless and not line.turn.agrees]

    @property
    def agrees(self) -> bool:
        """Is there no such turn, or are there such by design (`by_length`)?"""
        return not self.wrong or self.by_length is not None

    def to_dict(self) -> dict[str, Any]:
        """As `kvsim.chat/1` (see `kvsim schema chat`)."""
        return {
            "schema": SCHEMA,
            "kvsim": __version__,
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
        """`to_dict` as JSON text, UTF-8 characters as they are, integers exact."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


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


def read_turns(path: Path) -> list[str]:
    """The texts in a JSON file. FileError: more than LIMIT bytes, or no list of texts that are not empty."""
    found = read_value(path, LIMIT)
    if not isinstance(found, list) or not found:
        raise FileError(
            "{path} must hold a JSON list of texts, one a turn, at least one; got {got}",
            path=path,
            got="[]" if found == [] else type(found).__name__,
        )
    for number, text in enumerate(found, start=1):
        if not isinstance(text, str) or not text:
            raise FileError(
                "{path}: turn {number} must be a text that is not empty, got {got}",
                path=path,
                number=number,
                got='""' if text == "" else type(text).__name__,
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half of a pair, written as an escape
            raise FileError("{path}: turn {number} is not valid Unicode", path=path, number=number) from error
    return found


def _check_script(talk: Conversation, texts: Sequence[str], new: int, branches: Sequence[tuple[int, str]]) -> None:
    """Refuse, before anything runs, a script that could not end."""
    if not texts:
        raise UsageError("a conversation needs at least one turn")
    for number, _ in branches:
        if not 1 <= number <= len(texts):
            raise UsageError(
                "there is no turn {number}: this conversation has {count}", number=number, count=len(texts)
            )
    said = 0
    for i, text in enumerate(texts):
        said += len(talk.encode(text, first=i == 0))
        check_room(talk.model, [talk.cache], said, new)
        said += new


def run_chat(
    texts: Sequence[str],
    model: str | Path | Model = "demo",
    cache: str = "dynamic",
    max_new_tokens: int = 8,
    *,
    forks: Sequence[tuple[int, str]] = (),
    edits: Sequence[tuple[int, str]] = (),
    separator: str = "",
    progress: Progress | None = None,
) -> Chat:
    """Say `texts` one after the other. A fork (N, text) says its text after turn N beside the conversation; an edit
    (N, text) replaces turn N's text when all is said, and drops the later turns.

    UsageError: no turns, a turn that is not there, an empty text, more tokens than the context or the cache holds.
    """
    talk = Conversation(model, cache, separator=separator)
    _check_script(talk, texts, max_new_tokens, [*forks, *edits])
    lines, beside = list[Line](), list[Line]()
    n_lines = len(texts) + len(forks) + len(edits)

    def tell(to: list[Line], kind: Kind, at: int, turn: Turn) -> None:
        to.append(Line(kind, at, turn))
        if progress is not None:
            progress(len(lines) + len(beside), n_lines)

    for number, text in enumerate(texts, start=1):
        tell(lines, "turn", number, talk.say(text, max_new_tokens))
        for at, other in forks:
            if at == number:
                tell(beside, "fork", at, talk.fork().say(other, max_new_tokens))
    lines, beside = [*lines, *beside], []
    for at, text in edits:
        tell(lines, "edit", at, talk.edit(at, text, max_new_tokens))
    return Chat(
        model=describe_model(talk.model),
        cache=talk.cache.spec,
        lossless=talk.cache.lossless,
        backend=talk.model.backend,
        dtype=talk.model.dtype,
        separator=separator,
        lines=tuple(lines),
        by_length=talk.by_length,
    )
