"""Quantisers under test, by themselves: no bound on logits tells rounding from truncation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.errors import UsageError
from kvsim.testing.bank import find_mistake
from kvsim.testing.independent.rounding import FORMATS, format_name
from kvsim.testing.subject.attention import numbers
from kvsim.testing.subject.calls import UnreadableError, call, to_host
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.verdict.failing import OracleError
from kvsim.testing.verdict.sentences import language, tell

AXES = {"channel": 0, "token": 1}


def make_cases(group: int, seed: int) -> dict[str, Any]:
    """Rows [tokens, channels] that tell one mistake from another; both sizes are multiples of the group."""
    generator = np.random.default_rng(seed)
    plain = generator.standard_normal((2 * group, 2 * group))
    outliers = plain.copy()
    outliers[:, 3 % group] *= 50.0
    outliers[1] *= 20.0
    zeros = plain.copy()
    zeros[:group] = 0.0
    zeros[:, 0] = 0.0
    return {"normal": plain, "outliers": outliers, "zeros": zeros, "all positive": np.abs(plain) + 1.0}


def steps_of(x: Any, bits: int, axis: str, group: int, symmetric: bool) -> tuple[Any, Any]:
    """For each number the step between codes, and the largest of its group; groups run over tokens (a scale for each
    channel), or over channels (one for each token)."""
    moved = np.moveaxis(x, AXES[axis], -1)
    grouped = moved.reshape(*moved.shape[:-1], -1, group)
    top = np.abs(grouped).max(axis=-1, keepdims=True)
    if symmetric:
        step = top / (2 ** (bits - 1) - 1)
    else:
        step = (grouped.max(axis=-1, keepdims=True) - grouped.min(axis=-1, keepdims=True)) / (2**bits - 1)
    return tuple(
        np.moveaxis(np.broadcast_to(part, grouped.shape).reshape(moved.shape), -1, AXES[axis]) for part in (step, top)
    )  # type: ignore[return-value]


def name_it(x: Any, got: Any, bits: int, axis: str, group: int, symmetric: bool, slack: float) -> str | None:
    """The mistake that explains it: everything towards zero (or down), or right along the other axis."""
    step, top = steps_of(x, bits, axis, group, symmetric)
    room = slack * top + 1e-12
    lost = x - got
    cut = (np.abs(lost) <= step + room).all() and ((lost * np.sign(x) >= -room).all() or (lost >= -room).all())
    if cut:
        return "quantised_truncates"
    other = "token" if axis == "channel" else "channel"
    step, top = steps_of(x, bits, other, group, symmetric)
    return "quantised_scale_axis" if (np.abs(lost) <= step / 2 + slack * top + 1e-12).all() else None


def read_back(quantise: Any, dequantise: Any, x: Any, array: Callable[[Any], Any] | None) -> Any:
    """The rows, quantised and read back, in float64. UnreadableError: that cannot be done."""
    given = x.copy() if array is None else call(array, x.copy())
    before = numbers(given)
    packed = call(quantise, given)
    if before is not None and not np.array_equal(numbers(given), before):
        raise UnreadableError("quantise changed its input")
    return to_host(call(dequantise, packed))[0]


def assert_quantiser(
    quantise: Callable[[Any], Any], dequantise: Callable[[Any], Any], *, bits: int = 8, axis: str = "channel",
    group: int = 64, symmetric: bool = True, scale_dtype: str = "float16", array: Callable[[Any], Any] | None = None,
    seed: int = 0, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Are rows [tokens, channels] read back with an error of at most half a step everywhere, zero rows and outliers
    included, and does quantising them again change nothing?

    `axis` "channel": each channel has a scale for every `group` tokens; "token": each token for every `group`
    channels. A step is the group's max|x| / (2^(bits-1) - 1), or (max - min) / (2^bits - 1) if not `symmetric`.
    `scale_dtype`: what scales are kept in; its rounding is allowed for. A call may take `seconds`. OracleError: no,
    and the mistake's name.
    """
    __tracebackhide__ = True
    if axis not in AXES or bits < 2 or group < 1:
        raise UsageError("axis is channel or token, bits at least 2, group at least 1: got {axis}, {bits}, {group}",
                         axis=repr(axis), bits=bits, group=group)  # fmt: skip
    quantise, dequantise = limited(quantise, seconds), limited(dequantise, seconds)
    lang, slack = language(), FORMATS[format_name(scale_dtype)].eps
    for case, x in make_cases(group, seed).items():
        try:
            back = read_back(quantise, dequantise, x, array)
        except UnreadableError as error:
            raise _unreadable(tell(lang, error.problem.template, **error.problem.values)) from error
        if back.shape != x.shape:
            raise _unreadable(tell(
                lang, "{case}: the result has shape {got}, expected {expected}", case=case, got=list(back.shape),
                expected=list(x.shape),
            ))  # fmt: skip
        if not np.isfinite(back).all():
            raise _unreadable(tell(lang, "{case}: the result holds NaN or infinity", case=case))
        step, top = steps_of(x, bits, axis, group, symmetric)
        lost = np.abs(back - x)
        wrong = lost > step / 2 + slack * top + 1e-12
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            zero = step[place] == 0
            line = (
                tell(lang, "{case}: zeros come back as {got}", case=case, got=f"{back[place]:.3g}")
                if zero
                else tell(lang, "{case}: the error is {got} steps at {place}, at most {allowed} is rounding", case=case,
                          got=f"{lost[place] / step[place]:.3f}", place=list(place), allowed="0.5")
            )  # fmt: skip
            raise _named(lang, line, name_it(x, back, bits, axis, group, symmetric, slack))
        try:
            again = read_back(quantise, dequantise, back, array)
        except UnreadableError as error:
            raise _unreadable(tell(lang, error.problem.template, **error.problem.values)) from error
        moved = np.abs(again - back)
        if (moved > 2 * slack * top + 1e-12).any():
            place = tuple(int(i) for i in np.argwhere(moved > 2 * slack * top + 1e-12)[0])
            steps = moved[place] / max(step[place], 1e-300)
            line = tell(lang, "{case}: quantising what was read back changes it by {got} steps", case=case,
                        got=f"{steps:.3g}")  # fmt: skip
            raise _named(lang, line, None)


def _unreadable(line: str) -> OracleError:
    """Nothing to compare: no mistake could be tried."""
    return OracleError(line, {"problem": [line], "diagnosis": []})


def _named(lang: str, line: str, id: str | None) -> OracleError:
    unknown = tell(lang, "no single mistake of the bank gives this output (two at once are often not named)")
    said = f"[{id}] {find_mistake(id).sentence(lang)}" if id else f"[unknown] {unknown}"
    return OracleError(f"{line}\n  {tell(lang, 'diagnosis: ')}{said}", {"diagnosis": [id or "unknown"]})
