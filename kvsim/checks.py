"""Checks of what a caller passes: whole numbers and token ids."""

from collections.abc import Iterable
from operator import index
from typing import Any

from kvsim.errors import UsageError, shortened

LARGEST = 10**18  # tokens: the largest count that `costs` accepts


def _as_int(value: Any) -> int | None:
    """`value` as an int, or None if it is not an integer (a bool is not)."""
    if isinstance(value, bool):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int from `least` to `most` (None: no upper limit). UsageError: anything else, naming `name`."""
    number = _as_int(value)
    if number is None or number < least:
        raise UsageError(
            "{name} must be a whole number of at least {least}, got {got}", name=name, least=least, got=shortened(value)
        )
    if most is not None and number > most:
        raise UsageError("{name} must be at most {most}, got {got}", name=name, most=most, got=shortened(value))
    return number


def parse_whole(name: str, text: str) -> int:
    """The number in `text`, of ASCII digits after a sign or none. UsageError, naming `name`: beyond LARGEST, on either
    side of 0."""
    digits = text.lstrip("+-").lstrip("0") or "0"
    # int() raises a ValueError from 4,301 digits on.
    number = int(digits) if len(digits) <= len(str(LARGEST)) else LARGEST + 1
    negative = text.startswith("-")
    if number > LARGEST and not negative:
        raise UsageError("{name} must be at most {most}, got {got}", name=name, most=LARGEST, got=shortened(text))
    if number > LARGEST:
        raise UsageError(
            "{name} must be a whole number of at least {least}, got {got}",
            name=name,
            least=-LARGEST,
            got=shortened(text),
        )
    return -number if negative else number


def check_ids(ids: Iterable[int], vocab_size: int, model: str) -> list[int]:
    """Token ids as Python ints, all inside the vocabulary of `model`. UsageError: no ids, or an id outside.

    Checked on the host, because a look-up on a device wraps or clamps without an error.
    """
    if isinstance(ids, str):
        raise UsageError("expected token ids, got text: use model.tokenizer.encode(text)")
    if not isinstance(ids, Iterable):
        raise UsageError("expected token ids, got {got}", got=shortened(ids))
    try:
        checked = [index(i) for i in ids]
    except TypeError as error:
        raise UsageError("token ids are integers: {error}", error=error) from error
    if not checked:
        raise UsageError("no token ids: give at least one")
    for i in checked:
        if not 0 <= i < vocab_size:
            raise UsageError(
                "token id {id} is outside the vocabulary of {model}: ids go from 0 to {last}",
                id=i,
                model=model,
                last=vocab_size - 1,
            )
    return checked
