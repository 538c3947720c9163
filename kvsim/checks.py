"""Checks of what a caller passes, at the door of every public function: numbers, names, token ids.

NumPy's scalars are numbers like Python's; a bool is a number nowhere.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Set
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

from kvsim.errors import UsageError, Words, shortened

LAST = 2**32 - 1  # the largest id of a tokenizer
LARGEST = 10**18  # tokens: the largest count that `costs` accepts


def as_int(value: Any) -> int | None:
    """`value` as an int, or None if it is not one integer: a bool is not, nor an array with an axis."""
    if isinstance(value, bool) or getattr(value, "ndim", 0) > 0 or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int from `least` to `most` (None: no upper limit). UsageError: anything else, naming `name`."""
    number = as_int(value)
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


def check_number(name: str, value: Any) -> float:
    """`value` as a float, NaN and infinity included. UsageError: text, a bool, an array with an axis, or anything
    else that is no real number."""
    kind = str(getattr(value, "dtype", ""))
    real = hasattr(value, "__float__") and not isinstance(value, bool) and "bool" not in kind and "complex" not in kind
    try:
        if real and not getattr(value, "ndim", 0) > 0:
            return float(value)
    except (TypeError, ValueError, OverflowError):  # an int beyond the largest float; an array of text
        pass
    raise UsageError("{name} must be a number, got {got}", name=name, got=shortened(value))


def check_finite(name: str, value: Any, least: float = -math.inf) -> float:
    """`value` as a finite float of at least `least`. UsageError: as `check_number`; NaN, infinity, or less."""
    number = check_number(name, value)
    if not math.isfinite(number):
        raise UsageError("{name} must be a number, got {got}", name=name, got=shortened(value))
    if number < least:
        raise UsageError("{name} must be at least {least}, got {got}", name=name, least=least, got=shortened(value))
    return number


def check_flag(name: str, value: Any) -> bool:
    """`value` as a bool. UsageError: neither True nor False, of Python or of NumPy."""
    if isinstance(value, bool):
        return value
    if type(value).__name__ != "bool" or type(value).__module__ != "numpy":
        raise UsageError("{name} must be True or False, got {got}", name=name, got=shortened(value))
    return bool(value)


def check_text(name: str, value: Any) -> str:
    """`value` itself. UsageError: not a str."""
    if not isinstance(value, str):
        raise UsageError("{name} must be text, got {got}", name=name, got=shortened(value))
    return value


def check_function(name: str, value: Any) -> Callable[..., Any]:
    """`value` itself. UsageError: nothing that can be called."""
    if not callable(value):
        raise UsageError("{name} must be a function, got {got}", name=name, got=shortened(value))
    return value  # type: ignore[no-any-return]


def check_progress(value: Any) -> None:
    """UsageError: what is called after every step is neither a function nor None."""
    if value is not None:
        check_function("progress", value)


def check_path(name: str, value: Any) -> Path:
    """`value` as a Path. UsageError: neither text nor a path."""
    if not isinstance(value, str | PathLike):
        raise UsageError("{name} must be a path, got {got}", name=name, got=shortened(value))
    return Path(value)


def check_kind(name: str, fits: bool, value: Any, wanted: Words) -> None:
    """UsageError: `value` does not fit; `wanted` says in words what does."""
    if not fits:
        raise UsageError("{name} must be {wanted}, got {got}", name=name, wanted=wanted, got=shortened(value))


def check_list(name: str, value: Any) -> list[Any]:
    """The elements of a list, a tuple, an array with an axis or another iterable. UsageError: text, nothing that can be
    iterated over, or what has no order, a mapping or a set."""
    unordered = isinstance(value, str | bytes | Mapping | Set)
    if unordered or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise UsageError("{name} must be a list, got {got}", name=name, got=shortened(value))
    return list(value)


def check_pair(sequence: Any) -> tuple[Any, Any]:
    """The ids and the cache of a sequence of `Model.batch`. UsageError: not two things."""
    if not isinstance(sequence, tuple | list) or len(sequence) != 2:
        raise UsageError("batch takes (ids, cache) for each sequence, got {got}", got=shortened(sequence))
    return sequence[0], sequence[1]


def check_array(name: str, value: Any) -> Any:
    """`value` itself, an array of any library. UsageError: a list, an empty array, or one of anything but real
    numbers."""
    kind = getattr(getattr(value, "dtype", None), "kind", "f")  # NumPy's letter; other libraries have none
    if not hasattr(value, "shape") or kind not in "fiuV":  # V: bfloat16 and fp8 of ml_dtypes
        raise UsageError(
            "{name} must be an array of numbers, got {got}: use numpy.asarray", name=name, got=shortened(value)
        )
    if any(type(size) is int and size == 0 for size in value.shape):
        raise UsageError("{name} is empty, of shape {shape}", name=name, shape=list(value.shape))
    return value


def is_name(value: Any, known: Container[str]) -> bool:
    """Whether `value` is text, and one of `known`: an array is in no table, nor has a truth value."""
    return isinstance(value, str) and value in known


def holds_several(ids: Any) -> bool:
    """Whether `ids`, a list or an array, holds other lists, arrays or texts."""
    return isinstance(ids, str | bytes | list | tuple | range) or getattr(ids, "ndim", 0) > 0


def check_ids(ids: Iterable[int], vocab_size: int, model: str, least: int = 1) -> list[int]:
    """Token ids as Python ints, all inside the vocabulary of `model`. UsageError: fewer than `least` (0 or 1), or an id
    outside.

    Checked on the host, because a look-up on a device wraps or clamps without an error.
    """
    checked = list(ids) if type(ids) is list else _list_ids(ids)
    for i in checked:
        if type(i) is not int or not 0 <= i < vocab_size:
            return [_check_id(i, vocab_size, model) for i in checked]
    if len(checked) < least:
        raise UsageError("no token ids: give at least one")
    return checked


def check_token_ids(ids: Any) -> list[int]:
    """Ids as a tokenizer decodes them, as ints, also such as no token has. UsageError: anything but a list of them."""
    return [i if type(i) is int and 0 <= i <= LAST else check_whole("id", i, 0, LAST) for i in check_list("ids", ids)]


def _list_ids(ids: Any) -> list[Any]:
    """What `ids` holds. UsageError: nothing that has an order, or an array of more or fewer axes than one."""
    if isinstance(ids, str):
        raise UsageError("expected token ids, got text: use model.tokenizer.encode(text)")
    axes = getattr(ids, "ndim", 1)
    if axes == 0 or isinstance(ids, bytes | bytearray | Mapping | Set) or not isinstance(ids, Iterable):
        raise UsageError("expected a list of token ids, got {got}", got=shortened(ids))
    if axes > 1:
        raise _several(ids)
    return list(ids.tolist() if axes == 1 and hasattr(ids, "tolist") else ids)


def _several(got: Any) -> UsageError:
    return UsageError(
        "expected the token ids of one sequence, got {got} in their place: several sequences go through"
        " model.batch([(ids, cache), ...])",
        got=shortened(got),
    )


def _check_id(value: Any, vocab_size: int, model: str) -> int:
    """One token id as an int."""
    if isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) > 0:
        raise _several(value)
    number = as_int(value)
    if number is None:
        raise UsageError("token ids are integers, got {got}", got=shortened(value))
    if not 0 <= number < vocab_size:
        raise UsageError(
            "token id {id} is outside the vocabulary of {model}: ids go from 0 to {last}",
            id=shortened(number),
            model=model,
            last=vocab_size - 1,
        )
    return number
