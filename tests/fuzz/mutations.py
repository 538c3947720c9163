"""Mutated bytes and mutated JSON values."""

import copy
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 3, 7, 2**7, 2**8 - 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**33, 2**53, 2**60, 2**63 - 1,
           2**63, 2**64 - 1, -(2**31), -(2**63), 10**18, 10**19, 10**100)  # fmt: skip
FLOATS = (0.0, -0.0, 0.5, 1.5, -1.5, 1e-30, 1e30, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", " ", "x", "0", "-1", "1e9", "nan", "null", "\x00", "\n", "\ud800", "𝔘", "中" * 40, "a" * 5000, "../../x",
         "/dev/zero", "%s%n", "{x}", "[1]", "\x1b[31m")  # fmt: skip


def nest(depth: int, *, in_dicts: bool = False) -> Any:
    """An empty list or dict nested in `depth` others."""
    value: Any = {} if in_dicts else []
    for _ in range(depth):
        value = {"x": value} if in_dicts else [value]
    return value


def draw_value(random: Random) -> Any:
    """A JSON value that is often the wrong one."""
    kind = random.randrange(10)
    if kind < 4:
        return random.choice(NUMBERS)
    if kind < 6:
        return random.choice(FLOATS)
    if kind < 8:
        return random.choice(TEXTS)
    return random.choice((None, True, False, [], {}, [0], [[]], {"": 0}, [None] * 100, list(range(300)), nest(200),
                          nest(90, in_dicts=True)))  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    found, open_ = [], [value]
    while open_:
        one = open_.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            open_.append(one[key])
    return found


def mutate_json(random: Random, value: Any, most: int = 3) -> Any:
    """A copy with one to `most` changes: a value replaced, nudged, copied from elsewhere, repeated or removed."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, most)):
        places = _places(value)
        if not places:
            return draw_value(random)
        inside, key = random.choice(places)
        kind, old = random.randrange(8), inside[key]
        if kind == 0:
            del inside[key]
        elif kind == 1:
            inside[key] = [copy.deepcopy(old)] * random.choice((1, 2, 50))
        elif kind == 2:
            other, at = random.choice(places)
            if not (isinstance(other, list) and at >= len(other)) and at in (
                other if isinstance(other, dict) else [at]
            ):
                inside[key] = copy.deepcopy(other[at])
        elif kind in (3, 4) and isinstance(old, int | float) and not isinstance(old, bool):
            inside[key] = random.choice((old + 1, old - 1, -old, old * 2, old * 2**20, old / 2, str(old), [old]))
        else:
            inside[key] = draw_value(random)
    return value


def mutate_bytes(random: Random, data: bytes, most: int = 4, head: int = 4096) -> bytes:
    """A copy with one to `most` changes, most of them in the first `head` bytes: bits, whole integers, pieces removed,
    repeated, moved or cut off."""
    out = bytearray(data)
    for _ in range(random.randint(1, most)):
        reach = len(out) if random.random() < 0.2 else min(head, len(out))
        at, kind = random.randrange(reach + 1), random.randrange(8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind in (1, 2):
            width = random.choice((1, 2, 4, 8))
            number = random.choice(NUMBERS) % 2 ** (8 * width)
            out[at : at + width] = number.to_bytes(width, "little")
        elif kind == 3:
            del out[at : at + random.choice((1, 4, 8, 100))]
        elif kind == 4:
            out[at:at] = out[at : at + random.choice((1, 8, 64))]
        elif kind == 5:
            out[at:at] = random.randbytes(random.choice((1, 8, 64)))
        elif kind == 6:
            start = random.randrange(reach + 1)
            out[at : at + 16] = out[start : start + 16]
        elif random.random() < 0.3:
            del out[at:]
    return bytes(out)
