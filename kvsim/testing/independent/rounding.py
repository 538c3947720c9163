"""Number formats, emulated in float64: what a step's result becomes when it is kept in one of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import UsageError

Rounding = Callable[[Any], Any]


class Format(NamedTuple):
    """A binary format: `bits` significant ones, normal numbers from 2^lowest up to `largest`."""

    bits: int
    lowest: int
    largest: float
    saturates: bool = False  # beyond the largest: that one, not infinity

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number."""
        return 2.0 ** (1 - self.bits)


FORMATS = {
    "float64": Format(53, -1022, float(np.finfo(np.float64).max)),
    "float32": Format(24, -126, float(np.finfo(np.float32).max)),
    "float16": Format(11, -14, 65504.0),
    "bfloat16": Format(8, -126, float.fromhex("0x1.fep127")),
    "float8_e4m3fn": Format(4, -6, 448.0, saturates=True),
    "float8_e5m2": Format(3, -14, 57344.0),
}
SHORT = {
    "f64": "float64", "fp64": "float64", "f32": "float32", "fp32": "float32", "f16": "float16", "fp16": "float16",
    "bf16": "bfloat16", "fp8": "float8_e4m3fn", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2",
}  # fmt: skip


def format_name(dtype: str) -> str:
    """The full name of a format: "bf16" is bfloat16. UsageError: there is none."""
    name = SHORT.get(dtype, dtype)
    if name not in FORMATS:
        raise UsageError("unknown number format {got}: use one of {known}", got=repr(dtype), known=", ".join(FORMATS))
    return name


def round_to(x: Any, kind: Format) -> Any:
    """x as the format keeps it: ties to even, subnormal numbers gradual, beyond the largest infinite or the largest."""
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = np.frexp(x)[1] - 1  # x = m · 2^exponent with 1 <= |m| < 2
        step = np.ldexp(1.0, np.maximum(exponent, kind.lowest) + 1 - kind.bits)
        near = np.where(np.isfinite(x), np.rint(x / step) * step, x)
        beyond = np.sign(near) * (kind.largest if kind.saturates else np.inf)
        return np.where(np.abs(near) > kind.largest, beyond, near)


def _through(x: Any, dtype: Any) -> Any:
    """x as NumPy's own dtype keeps it."""
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(dtype).astype(np.float64)


def exact(x: Any) -> Any:
    """As it is."""
    return x


def rounding(dtype: str) -> Rounding:
    """What keeps results in `dtype`; float64 is what everything is computed in."""
    name = format_name(dtype)
    if name == "float64":
        return exact
    if name in ("float32", "float16"):
        return lambda x: _through(x, np.dtype(name))
    return lambda x: round_to(x, FORMATS[name])
