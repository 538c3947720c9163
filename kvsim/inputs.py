"""What a model is given, held against what it takes."""

from collections.abc import Iterable
from operator import index
from typing import Any

from kvsim.errors import UsageError, shortened
from kvsim.ops import Ops


def same_source(ops: Ops, one: Any, other: Any) -> bool:
    """Are two sources the same: equal ids, or the very array, or one of equal numbers?"""
    if isinstance(one, tuple) or isinstance(other, tuple):
        return isinstance(one, tuple) and one == other
    if one is other or tuple(one.shape) != tuple(other.shape):
        return one is other
    xp = ops.xp
    one, other = (xp.asarray(x, dtype=ops.dtype, device=ops.device) for x in (one, other))
    return not bool(xp.any(xp.abs(one - other) > 0.0))


def check_ids(ids: Iterable[int], vocab_size: int, model: str) -> list[int]:
    """Ids as Python ints, all inside the vocabulary of `model`: a device would wrap or clamp in silence."""
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
