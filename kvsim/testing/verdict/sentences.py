"""What a failure says, in English and Chinese: data, since a failed test is read where no catalogue is."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from kvsim.i18n.language import choose_language

FILE = Path(__file__).with_name("sentences.json")  # English template: Chinese


@lru_cache
def chinese() -> dict[str, str]:
    read: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def language() -> str:
    """KVSIM_LANG, else the locale's."""
    return choose_language(None, os.environ)


def tell(lang: str, template: str, /, **values: Any) -> str:
    """A sentence in a language."""
    return (chinese()[template] if lang == "zh" else template).format(**values)
