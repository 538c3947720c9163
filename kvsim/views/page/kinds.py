"""The kinds of results that have a page, and the page itself."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.errors import UsageError, shortened
from kvsim.files.writing import write_beside
from kvsim.i18n.language import LANGUAGES, Say, words
from kvsim.schemas import VERSION
from kvsim.views.page.bundle import make_html
from kvsim.views.page.texts import frame_texts, key_texts

# The type of a result, and the module of results/ that tells it; its static/kinds/NAME.js has the same name.
KINDS = {
    "kvsim.comparisons.trace_record.Trace": "trace",
    "kvsim.comparisons.policies_record.PolicyComparison": "compare",
    "kvsim.comparisons.chat_script_record.Chat": "chat",
    "kvsim.testing.verifying.Found": "verify",
    "kvsim.benchmark.record.Benchmark": "bench",
}


class Told(NamedTuple):
    """A result, as a page shows it."""

    data: dict[str, Any]  # what is the same in every language: plain numbers, strings, lists
    texts: Callable[[Say], dict[str, str]]  # the kind's own texts by key
    keys: Callable[[Say], list[tuple[str, str]]]  # its own keys, and what each does
    lines: Callable[[Say], tuple[str, list[str]]]  # a headline, and the notes at the end
    title: Callable[[Say], str]
    still: Callable[[Say], str]  # HTML for browsers without scripts


def to_html(result: Any, language: str = "en") -> bytes:
    """The page of a result: HTML in UTF-8, both languages in it. `language` is that of the title and of what a browser
    without scripts shows; with scripts the reader's browser chooses. UsageError: a result that has no page."""
    name = KINDS.get(f"{type(result).__module__}.{type(result).__qualname__}")
    if name is None:
        raise UsageError(
            "there is no page for {got}: pages show the results of {kinds}",
            got=shortened(result),
            kinds=", ".join(KINDS.values()),
        )
    told: Told = import_module(f"kvsim.views.page.results.{name}").tell(result)
    says = {code: words(code) for code in LANGUAGES}
    data = {
        **told.data,
        "kvsim": VERSION,
        "headline": {code: told.lines(say)[0] for code, say in says.items()},
        "notes": {code: told.lines(say)[1] for code, say in says.items()},
        "texts": _pair(*(_texts(told, say) for say in says.values())),
    }
    say = says[language]
    still = f'<div class="still">{told.still(say)}</div>'
    code = "zh-CN" if language == "zh" else "en"
    return make_html(name, data, still, title=told.title(say), language=code)


def _pair(*texts: dict[str, str]) -> dict[str, list[str]]:
    """Each text in all languages, in the order of LANGUAGES."""
    return {key: [text[key] for text in texts] for key in texts[0]}


def _texts(told: Told, say: Say) -> dict[str, str]:
    """Texts of the frame and of the kind; the keys as lines of keys, a tab, what they do."""
    keys = "\n".join(f"{keys}\t{does}" for keys, does in (*key_texts(say), *told.keys(say)))
    return {**frame_texts(say), **told.texts(say), "keys": keys}


def write_page(result: Any, path: Path, language: str = "en") -> None:
    """The page of a result, written to `path` whole or not at all. FileError: it cannot be written."""
    write_beside(path, to_html(result, language))
