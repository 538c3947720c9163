"""The language of messages, and their translation (gettext catalogues in kvsim/locale)."""

import gettext
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kvsim.errors import KvsimError, UsageError, Words
from kvsim.i18n.printable import printable

LOCALE = Path(__file__).resolve().parent.parent / "locale"
LANGUAGES = ("en", "zh")  # English is the language of the msgids
Say = Callable[[str], str]  # a message to its translation


def choose_language(option: str | None, environment: Mapping[str, str]) -> str:
    """`option` ("zh", "en", "auto", None), else KVSIM_LANG, else the locale's language, else English.

    UsageError: `option` or KVSIM_LANG is another word.
    """
    for word in (option, environment.get("KVSIM_LANG")):
        if word and word != "auto":
            if word not in LANGUAGES:
                raise UsageError("unknown language {word}: use zh, en or auto", word=repr(word))
            return word
    # As in POSIX, the first variable that is set decides, even if its language is not among LANGUAGES.
    locale = next(filter(None, (environment.get(v) for v in ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def words(language: str) -> Say:
    """The function that translates messages to `language`."""
    return gettext.translation("kvsim", LOCALE, [language], fallback=True).gettext


def language_of(say: Say) -> str:
    """The language that `say`, made by `words`, translates to."""
    translations = getattr(say, "__self__", None)
    found = translations.info().get("language", "en") if isinstance(translations, gettext.NullTranslations) else "en"
    return str(found).partition("_")[0]


def plain(say: Say) -> Say:
    """`say` with ASCII for the signs of ambiguous width, which some terminals draw two cells wide (--ascii)."""
    return lambda message: say(message).replace("×", "x").replace("ᵀ", "^T").replace("·", "*").replace("←", "<-")


def explain(error: KvsimError, say: Say) -> str:
    """The error's message, with template and `Words` translated."""
    values = {name: _format(value, say) for name, value in error.values.items()}
    return say(error.template).format(**values)


def _say_words(words: Words, say: Say) -> str:
    values = {name: _format(value, say) for name, value in words.values.items()}
    return say(words.template).format(**values) if values else say(words)


def _format(value: object, say: Say) -> str:
    """A value in a message: `Words` translated, control characters escaped, at most about 300 characters."""
    text = printable(_say_words(value, say) if isinstance(value, Words) else str(value))
    return text if len(text) <= 300 else f"{text[:280]} ... {text[-10:]}"


@contextmanager
def language_for_checks(language: str) -> Iterator[None]:
    """Within this context KVSIM_LANG is `language`: the oracle's checks, and processes that run them, have no other way
    to be given one. Restored at the end."""
    before = os.environ.get("KVSIM_LANG")
    os.environ["KVSIM_LANG"] = language
    try:
        yield
    finally:
        if before is None:
            del os.environ["KVSIM_LANG"]
        else:
            os.environ["KVSIM_LANG"] = before
