"""Settings for `assert_attention`, in every combination: parameters of a pytest test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from kvsim.checks import check_flag, check_list, check_whole
from kvsim.errors import UsageError
from kvsim.testing.checks.attention import LEAST_BUFFER, assert_attention
from kvsim.testing.independent.rounding import format_name


@dataclass(frozen=True)
class Case:
    """One setting of `assert_attention`. `str(case)` is a name for it, as pytest's `ids=str` needs."""

    rope: bool
    heads: int
    kv_heads: int
    window: int | None
    d_head: int
    dtype: str
    buffer: int | None = None

    def __str__(self) -> str:
        window = "none" if self.window is None else self.window
        rope = "rope" if self.rope else "norope"
        buffer = "" if self.buffer is None else f"-buffer={self.buffer}"
        sizes = f"heads={self.heads}-kv_heads={self.kv_heads}-window={window}-d={self.d_head}"
        return f"{rope}-{sizes}-{self.dtype}{buffer}"

    def check(self, function: Callable[..., Any], layout: str = "b t h d", **more: Any) -> None:
        """`assert_attention` with this setting; `more`: its other options. OracleError: the function is wrong."""
        __tracebackhide__ = True
        settings: dict[str, Any] = {
            "heads": self.heads, "kv_heads": self.kv_heads, "window": self.window, "d_head": self.d_head,
            "dtype": self.dtype, "rotated": self.rope, "buffer": self.buffer,
        }  # fmt: skip
        assert_attention(function, layout, **(settings | more))


def cases(
    rope: Sequence[bool] = (False,), heads: Sequence[int] = (4,), kv_heads: Sequence[int] = (4,),
    window: Sequence[int | None] = (None,), d_head: Sequence[int] = (8,), dtype: Sequence[str] = ("float64",),
    buffer: Sequence[int | None] = (None,),
) -> list[Case]:  # fmt: skip
    """Every combination in which heads are a multiple of kv_heads.

    `rope`: are q and k rotated by their positions before the function is called, as in a model? (The function itself
    never rotates.) UsageError: no list, an empty one, a size below 1, or an unknown format.
    """
    ropes = [check_flag("rope", value) for value in check_list("rope", rope)]
    sizes = [
        [check_whole(name, value, 1) for value in check_list(name, values)]
        for name, values in (("heads", heads), ("kv_heads", kv_heads), ("d_head", d_head))
    ]
    windows = [None if size is None else check_whole("window", size, 1) for size in check_list("window", window)]
    dtypes = [format_name(name) for name in check_list("dtype", dtype)]
    buffers = [None if n is None else check_whole("buffer", n, LEAST_BUFFER) for n in check_list("buffer", buffer)]
    for name, values in zip(("rope", "heads", "kv_heads", "d_head", "window", "dtype", "buffer"),
                            (ropes, *sizes, windows, dtypes, buffers), strict=True):  # fmt: skip
        if not values:
            raise UsageError("{name} is empty: nothing would be checked", name=name)
    every = product(ropes, sizes[0], sizes[1], windows, sizes[2], dtypes, buffers)
    return [Case(*c) for c in every if c[1] % c[2] == 0]
