"""Which language to speak, and its words (gettext catalogues under kvsim/locale)."""

import gettext
from collections.abc import Callable, Mapping
from pathlib import Path

from kvsim.errors import KvsimError, UsageError, Words
from kvsim.i18n.printable import printable

LOCALE = Path(__file__).resolve().parent.parent / "locale"
LANGUAGES = ("en", "zh")  # English is what the source says
Say = Callable[[str], str]


def choose_language(asked: str | None, environment: Mapping[str, str]) -> str:
    """`asked` ("zh", "en", "auto", None), else KVSIM_LANG, else the locale's language, else English.

    UsageError for a language that was asked for and is not there.
    """
    for word in (asked, environment.get("KVSIM_LANG")):
        if word and word != "auto":
            if word not in LANGUAGES:
                raise UsageError("unknown language {word}: use zh, en or auto", word=repr(word))
            return word
    # As POSIX has it, the first variable that is set decides, even for a language that is not here.
    locale = next(filter(None, (environment.get(v) for v in ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def words(language: str) -> Say:
    """The function from a message to what it is called in `language`."""
    return gettext.translation("kvsim", LOCALE, [language], fallback=True).gettext


def language_of(say: Say) -> str:
    """The language that `words` was asked for."""
    translations = getattr(say, "__self__", None)
    told = translations.info().get("language", "en") if isinstance(translations, gettext.NullTranslations) else "en"
    return str(told).partition("_")[0]


def plain(say: Say) -> Say:
    """`say` without the signs that some terminals draw two cells wide."""
    return lambda message: say(message).replace("×", "x").replace("ᵀ", "^T").replace("·", "*").replace("←", "<-")


def explain(error: KvsimError, say: Say) -> str:
    """The error's message, its template translated."""
    values = {name: _told(value, say) for name, value in error.values.items()}
    return say(error.template).format(**values)


def _told(value: object, say: Say) -> str:
    """A value as a message shows it: words translated, nothing that moves the cursor, never long."""
    text = printable(say(value) if isinstance(value, Words) else str(value))
    return text if len(text) <= 300 else f"{text[:280]} ... {text[-10:]}"
