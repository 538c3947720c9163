"""The page of `kvsim verify`: who sees whom in the code and in the reference, where they first differ, and why."""

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from kvsim.i18n.language import Say
from kvsim.i18n.printable import printable
from kvsim.testing.verdict.failure import AttentionFailure, DecoderFailure, Mismatch
from kvsim.testing.verdict.picture import draw, legend, name_weights
from kvsim.testing.verdict.sections import Sections
from kvsim.testing.verdict.sections import tell as tell_sections
from kvsim.testing.verifying import Found
from kvsim.views.json.oracle import verify_dict
from kvsim.views.page.kinds import Told
from kvsim.views.page.results.verify_texts import verify_keys, verify_texts
from kvsim.views.terminal.oracle import say_outcome
from kvsim.views.terminal.text import cut

MOST_TOKENS = 64  # queries and keys that are drawn, the last ones of more
_SECTIONS = ("where", "why", "feeds", "command")


def tell(found: Found) -> Told:
    """The page's data and texts."""
    found = found._replace(text="\n".join(map(printable, found.text.split("\n"))))
    name = cut(printable(found.target), 60)
    return Told(
        data={
            "title": name,
            "facts": verify_dict(found.target, found.seed, found),
            "grid": _find_grid(found),
            "numbers": _numbers(found),
        },
        texts=lambda say: {**verify_texts(say), **_own_texts(found, say)},
        keys=verify_keys,
        lines=lambda say: (_headline(found, say), []),
        title=lambda say: say("kvsim verify: {target}").format(target=name),
        still=lambda say: _draw_still(found, name, say),
    )


def _sections(found: Found, say: Say) -> Sections:
    if found.failure is not None:
        return tell_sections(found.failure, say)
    return Sections([say_outcome(found, found.text, say)])


def _headline(found: Found, say: Say) -> str:
    return "\n".join(_clean(_sections(found, say).what))


def _clean(lines: Iterable[str]) -> list[str]:
    """Lines without the spaces that align them on a terminal."""
    return [re.sub(r"^(\S+) +(?=[:：])", r"\1", printable(line.strip())) for line in lines if line.strip()]


def _own_texts(found: Found, say: Say) -> dict[str, str]:
    """The failure's own sentences: one string a section, one line a sentence."""
    sections = _sections(found, say)
    whole = "\n".join(printable(line) for lines in sections for line in lines)
    below = _clean(sections.picture[-2:]) if isinstance(found.failure, AttentionFailure) else []
    return {
        **{f"lines_{name}": "\n".join(_clean(getattr(sections, name))) for name in _SECTIONS},
        "lines_below": "\n".join(below),
        "report": whole,
    }


def _find_grid(found: Found) -> dict[str, Any] | None:
    """Rows of both matrices as strings of 0 and 1, and the names of queries and keys."""
    picture = _find_picture(found)
    if picture is None:
        return None
    got, expected, queries, keys = picture
    skipped = max(0, len(keys) - MOST_TOKENS)
    rows = [[_bits(row[skipped:]) for row in matrix[-MOST_TOKENS:]] for matrix in (got, expected)]
    return {
        "got": rows[0],
        "expected": rows[1],
        "queries": list(queries[-MOST_TOKENS:]),
        "keys": list(keys[skipped:]),
        "skipped": skipped,
        "kind": "weights" if isinstance(found.failure, AttentionFailure) else "dependence",
    }


def _find_picture(found: Found) -> tuple[Any, Any, Sequence[str], Sequence[str]] | None:
    """Both matrices and the names of their rows and columns; None: there is nothing to draw."""
    failure = found.failure
    if isinstance(failure, AttentionFailure) and failure.linear and failure.weights is not None:
        return failure.weights.got_TS, failure.weights.expected_TS, *name_weights(failure.weights)
    if isinstance(failure, DecoderFailure) and failure.dependence is not None:
        names = [str(i) for i in range(len(failure.dependence.got_TT))]
        return failure.dependence.got_TT, failure.dependence.expected_TT, names, names
    return None


def _bits(row: Any) -> str:
    return "".join("1" if cell else "0" for cell in row)


def _numbers(found: Found) -> dict[str, Any] | None:
    """What differs, by how much, and the first place: numbers that JSON lacks as text."""
    failure = found.failure
    if not isinstance(failure, Mismatch):
        return None
    first = failure.first if isinstance(failure, DecoderFailure | AttentionFailure) else None
    return {
        "wrong": failure.difference.wrong,
        "total": failure.difference.total,
        "largest": _finite(failure.difference.largest),
        "allowed": _finite(failure.allowed.value),
        "got": None if first is None else _finite(first.got),
        "expected": None if first is None else _finite(first.expected),
    }


def _finite(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def _draw_still(found: Found, name: str, say: Say) -> str:
    """The report as it is printed, with both matrices as one picture."""
    sections, picture = _sections(found, say), _find_picture(found)
    drawn = [] if picture is None else [legend(say), *draw(say, *picture)]
    heading = f"<h1>{_mark(name)}</h1>"
    before = "".join(f"<p>{_mark(line)}</p>" for line in _clean([*sections.what, *sections.where]))
    matrix = f"<pre>{_mark(chr(10).join(drawn))}</pre>" if drawn else ""
    after = "".join(f"<p>{_mark(line)}</p>" for line in _clean([*sections.why, *sections.feeds, *sections.command]))
    return heading + before + matrix + after


def _mark(text: str) -> str:
    return html.escape(text, quote=False)
