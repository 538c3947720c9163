"""`kvsim chat`: run a conversation from a script of turns, forks and edits."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kvsim.comparisons.chat_script_record import Chat, Kind, Line
from kvsim.comparisons.conversation import Conversation
from kvsim.comparisons.conversation_record import Turn
from kvsim.comparisons.counts import describe_model
from kvsim.errors import FileError, UsageError
from kvsim.generation.plan import check_room
from kvsim.generation.prompts import read_piece
from kvsim.loading.json_file import read_value
from kvsim.model import Model

LIMIT = 2**20  # bytes of a file of turns
DEFAULT = ("什么是KV缓存？", "床前明月光，", "今天天气", "中华人民")  # texts that the demo model continues well

Progress = Callable[[int, int], None]  # turns done, turns in all


def read_turns(path: Path) -> list[str]:
    """The texts of a JSON file. FileError: more than LIMIT bytes, or no list of texts that are not empty."""
    found = read_value(path, LIMIT)
    if not isinstance(found, list) or not found:
        raise FileError(
            "{path} must hold a JSON list of texts, one per turn, at least one; got {got}",
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
        except UnicodeEncodeError as error:  # a lone surrogate, written as an escape
            raise FileError("{path}: turn {number} is not valid Unicode", path=path, number=number) from error
    return found


def _check_script(talk: Conversation, texts: Sequence[str], new: int, branches: Sequence[tuple[int, str]]) -> None:
    """Check before anything runs that every turn of a script fits. UsageError: no turns, a branch at a turn that is not
    there, an empty text, more tokens than the context or the cache holds."""
    if not texts:
        raise UsageError("a conversation needs at least one turn")
    for number, _ in branches:
        if not 1 <= number <= len(texts):
            raise UsageError(
                "there is no turn {number}: this conversation has {count}", number=number, count=len(texts)
            )
    length = 0
    for i, text in enumerate(texts):
        length += len(talk.encode(text, first=i == 0))
        check_room(talk.model, [talk.cache], length, new)
        length += new


def run_chat(
    texts: Sequence[str],
    model: str | Path | Model = "demo",
    cache: str = "dynamic",
    max_new_tokens: int = 8,
    *,
    forks: Sequence[tuple[int, str]] = (),
    edits: Sequence[tuple[int, str]] = (),
    separator: str = "",
    pieces: bool = False,
    progress: Progress | None = None,
) -> Chat:
    """A conversation of `texts`, turn by turn. A fork (N, text) branches off after turn N and leaves the conversation
    as it is; an edit (N, text) replaces turn N's text after the last turn, and drops the turns after N.
    With `pieces` the texts of all ids are recorded. `progress(done, total)` is called after every turn.

    UsageError: no turns, a turn that is not there, an empty text, more tokens than the context or the cache holds.
    KvsimError: logits that are not finite.
    """
    talk = Conversation(model, cache, separator=separator)
    _check_script(talk, texts, max_new_tokens, [*forks, *edits])
    turns, branches, edited = list[Line](), list[Line](), list[Line]()
    n_lines = len(texts) + len(forks) + len(edits)

    def add(to: list[Line], kind: Kind, at: int, turn: Turn) -> None:
        to.append(Line(kind, at, turn))
        if progress is not None:
            progress(len(turns) + len(branches) + len(edited), n_lines)

    for number, text in enumerate(texts, start=1):
        add(turns, "turn", number, talk.say(text, max_new_tokens))
        for at, other in forks:
            if at == number:
                add(branches, "fork", at, talk.fork().say(other, max_new_tokens))
    for at, text in edits:
        add(edited, "edit", at, talk.edit(at, text, max_new_tokens))
    lines = (*turns, *branches, *edited)
    ids = dict.fromkeys(i for line in lines for i in (*line.turn.ids, *line.turn.reply_ids)) if pieces else ()
    return Chat(
        model=describe_model(talk.model),
        cache=talk.cache.spec,
        lossless=talk.cache.lossless,
        backend=talk.model.backend,
        dtype=talk.model.dtype,
        separator=separator,
        lines=lines,
        by_length=talk.by_length,
        pieces=tuple(read_piece(talk.model, i) for i in ids),
    )
