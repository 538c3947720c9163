"""An attention or dependence matrix drawn as text: one row for each query, one column for each key."""

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len

from kvsim.i18n.language import Say
from kvsim.testing.verdict.failure import Buffer, Dependence, Weights

CHARACTERS = "中华人民共和国"


def labels(count: int) -> list[str]:
    """A short name for each of `count` tokens."""
    return list(CHARACTERS[:count]) if count <= len(CHARACTERS) else [str(i) for i in range(count)]


def legend(say: Say) -> str:
    """What the four signs mean."""
    return say("# seen  . masked  ! seen but must be masked  ? masked but must be seen")


def sign(got: bool, expected: bool) -> str:
    return ("#" if expected else "!") if got else ("?" if expected else ".")


def draw(say: Say, got_TS: Any, expected_TS: Any, queries: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The picture's lines: a head line with the keys' names, then one line a query. Both arrays are booleans [T, S]."""
    width = max(2, *(cell_len(name) for name in keys))
    names = [f"{say('query')} {name}" for name in queries]
    room = max(cell_len(name) for name in names)

    def padded(text: str, size: int) -> str:
        return text + " " * (size - cell_len(text))

    head = say("keys")
    lines = [
        "    " + " " * (room - cell_len(head)) + head + "  " + " ".join(padded(key, width) for key in keys).rstrip()
    ]
    for name, got, expected in zip(names, got_TS, expected_TS, strict=True):
        signs = [padded(sign(bool(g), bool(e)), width) for g, e in zip(got, expected, strict=True)]
        lines.append(f"    {padded(name, room)}  {' '.join(signs).rstrip()}")
    return lines


def draw_dependence(d: Dependence, say: Say) -> list[str]:
    """Which positions depend on which, with a title."""
    names = [str(i) for i in range(len(d.got_TT))]
    title = say("who depends on whom (feed {feed}, one token changed at a time)").format(feed=list(d.feed))
    return ["", f"  {title}   {legend(say)}", *draw(say, d.got_TT, d.expected_TT, names, names), ""]


def name_weights(w: Weights) -> tuple[list[str], list[str]]:
    """The names of queries and of keys; rows of a buffer past its length have none."""
    n_queries, n_keys = w.got_TS.shape
    _, length, named = w.buffer or (0, n_keys, n_keys)
    names = labels(named) + ["..."] * (n_keys - named)
    return names[length - n_queries : length], names


def draw_weights(w: Weights, say: Say) -> list[str]:
    """Which keys are seen, with a title, the key/value heads that are read, and whether weights sum to 1."""
    title = say("who sees whom (head {head}, read out with V = identity)").format(head=w.head)
    if w.buffer is not None:
        title = say("who sees whom (sequence {sequence}, head {head}, read out with V = identity)").format(
            head=w.head, sequence=w.buffer[0]
        )
    heads = say(
        "query head -> kv head: yours {got}  reference {expected};  rows sum to 1: {sums}"
    ).format(got=w.kv_heads, expected=w.expected_kv_heads, sums=say("yes") if w.sums_to_1 else say("no"))  # fmt: skip
    picture = draw(say, w.got_TS, w.expected_TS, *name_weights(w))
    return ["", f"  {title}   {legend(say)}", *picture, f"   {heads}", ""]


def describe_buffer(buffer: Buffer, say: Say) -> str:
    """The lengths in the buffers, and what the rows past them hold."""
    junk = "NaN" if buffer.nan else say("large numbers")
    return say(
        "buffers    : {rows} rows; sequence {sequence} (from 0) of lengths {lengths}; rows past a length hold {junk}"
    ).format(rows=buffer.rows, sequence=buffer.sequence, lengths=list(buffer.lengths), junk=junk)  # fmt: skip
