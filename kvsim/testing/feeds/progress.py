"""A progress bar on stderr, for checks of models that take seconds."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from kvsim.i18n.language import choose_language, words

WAIT = 1.0  # seconds after which a bar is shown
WIDTH = 24  # characters of a bar
LABELS = {  # written out here so that they are found as messages: what is counted
    "texts": lambda say: say("texts fed"),
    "rounding": lambda say: say("rounding measured"),
    "mistakes": lambda say: say("mistakes tried"),
}


def track(items: Sequence[Any], label: str) -> Iterator[Any]:
    """The items in order. From WAIT seconds on a line on stderr shows how many are done, if stderr is a terminal; it is
    erased at the end, however that comes. There is no thread: code under test may fork. `label`: one of LABELS."""
    started, shown = time.monotonic(), False
    try:
        for done, item in enumerate(items):
            if time.monotonic() - started >= WAIT and sys.stderr is not None and sys.stderr.isatty():
                shown = True
                full = WIDTH * done // len(items)
                what = LABELS[label](words(choose_language(None, os.environ)))
                _write(f"\r\x1b[2K{what} [{'#' * full}{'.' * (WIDTH - full)}] {done}/{len(items)}")
            yield item
    finally:
        if shown:
            _write("\r\x1b[2K")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
