"""Number formats emulated in float64: rounding to the nearest number of a format."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import UsageError, shortened

Rounding = Callable[[Any], Any]


class Format(NamedTuple):
    """A binary format with a significand of `bits` bits and normal numbers from 2^lowest to `largest`."""

    bits: int
    lowest: int
    largest: float
    saturates: bool = False  # a larger number becomes the largest, not infinity

    @property
    def eps(self) -> float:
        """The distance from 1 to the next larger number."""
        return 2.0 ** (1 - self.bits)


FORMATS = {
    "float64": Format(53, -1022, float(np.finfo(np.float64).max)),
    "float32": Format(24, -126, float(np.finfo(np.float32).max)),
    "float16": Format(11, -14, 65504.0),
    "bfloat16": Format(8, -126, float.fromhex("0x1.fep127")),
    "float8_e4m3fn": Format(4, -6, 448.0, saturates=True),
    "float8_e5m2": Format(3, -14, 57344.0),
}
ALIASES = {
    "f64": "float64", "fp64": "float64", "f32": "float32", "fp32": "float32", "f16": "float16", "fp16": "float16",
    "bf16": "bfloat16", "fp8": "float8_e4m3fn", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2",
}  # fmt: skip


def format_name(dtype: str) -> str:
    """The full name of a format: "bf16" gives "bfloat16". UsageError: an unknown format."""
    name = ALIASES.get(dtype, dtype) if isinstance(dtype, str) else ""
    if name not in FORMATS:
        raise UsageError(
            "unknown number format {got}: use one of {known}", got=shortened(dtype), known=", ".join(FORMATS)
        )
    return name


def round_to(x: Any, kind: Format) -> Any:
    """x rounded to a format, in float64: ties to even, gradual underflow, overflow to infinity or to the largest."""
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
    """x, not rounded."""
    return x


def rounding(dtype: str) -> Rounding:
    """The function that rounds to `dtype`; for float64 the identity, because everything is computed in float64."""
    name = format_name(dtype)
    if name == "float64":
        return exact
    if name in ("float32", "float16"):
        return lambda x: _through(x, np.dtype(name))
    return lambda x: round_to(x, FORMATS[name])
