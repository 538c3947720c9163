"""Arrays that remember what was asked of them, and the operations and caches that a recording runs on.

Shapes are those of the backend `meta`: sizes that grow with the context are polynomials, and what is decided by their
size is decided for a whole interval of it.
"""

import operator
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np

from kvsim.arrays import Array, Backend, meta
from kvsim.arrays.contract import DTYPES, FUNCTIONS, OPTIONAL
from kvsim.arrays.meta import MetaArray
from kvsim.counting.symbolic import Poly
from kvsim.fast.numpy_ops import FastOps, Joined, join
from kvsim.spans import Span, View
from kvsim.weights import Linear, Norm

# What a call does with its result: shows the first argument's memory (`reshape` only where it can), writes it where it
# is told (`out=`), writes over the first argument, or makes a new array.
Mode = Literal["view", "out", "over", "new"]
VIEWS = ("reshape", "permute_dims", "matrix_transpose", "broadcast_to")


class Call(NamedTuple):
    """One call of a step. Arguments are recorded arrays, forms in t, or what is the same in every step."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: "Recorded"
    mode: Mode


class Shown(NamedTuple):
    """One layer's cache is given rows and answers with keys and values."""

    layer: int
    given: tuple["Recorded", "Recorded"]
    shown: tuple["Recorded", "Recorded"]
    view: View  # the answer without its arrays


class Recorded:
    """An array of a step: its shape and dtype, and its numbers where no step changes them (weights)."""

    __slots__ = ("array", "like", "tape")

    def __init__(self, tape: "Tape", like: MetaArray, array: Array | None = None) -> None:
        self.tape, self.like, self.array = tape, like, array

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.like.shape

    @property
    def dtype(self) -> str:
        return self.like.dtype

    @property
    def ndim(self) -> int:
        return self.like.ndim

    @property
    def mT(self) -> "Recorded":  # noqa: N802 (the standard's name)
        return self.tape.note(np.matrix_transpose, meta.NAMESPACE.matrix_transpose, "view", self)

    def reshape(self, *shape: Any) -> "Recorded":
        shape = shape[0] if type(shape[0]) is tuple else shape
        return self.tape.note(np.reshape, meta.NAMESPACE.reshape, "view", self, shape)

    def __getitem__(self, key: Any) -> "Recorded":
        return self.tape.note(operator.getitem, operator.getitem, "view", self, key)

    def __neg__(self) -> "Recorded":
        return self.tape.note(np.negative, operator.neg, "out", self)

    __int__ = __float__ = __bool__ = __index__ = __array__ = __iter__ = __len__ = meta.refuse_value


def _operator(name: str, ufunc: Any, mode: Mode = "out") -> Callable[[Recorded, Any], Recorded]:
    """The operator `name` of an array: a call of `ufunc`, with its arguments the other way round for __radd__."""
    like = getattr(MetaArray, name.replace("__i", "__", 1) if mode == "over" else name)
    if name.startswith("__r"):
        return lambda x, y: x.tape.note(ufunc, lambda a, b: like(b, a), mode, y, x)
    return lambda x, y: x.tape.note(ufunc, like, mode, x, y)


ARITHMETIC: dict[str, Any] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide}
COMPARISONS: dict[str, Any] = {"eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater}
for _name, _ufunc in ARITHMETIC.items():
    setattr(Recorded, f"__{_name}__", _operator(f"__{_name}__", _ufunc))
    setattr(Recorded, f"__r{_name}__", _operator(f"__r{_name}__", _ufunc))
    setattr(Recorded, f"__i{_name}__", _operator(f"__i{_name}__", _ufunc, "over"))
for _name, _ufunc in COMPARISONS.items():
    setattr(Recorded, f"__{_name}__", _operator(f"__{_name}__", _ufunc))


def place(start: int, stop: int, out: Array) -> None:
    """The one position from `start` to `stop`, written where it is wanted."""
    out[0] = start


def cast(x: Array, dtype: str, out: Array) -> None:
    """x in another dtype, written where it is wanted."""
    np.copyto(out, x, casting="unsafe")


def _like(x: Any) -> Any:
    """What stands for an argument on the backend `meta`."""
    if isinstance(x, Recorded):
        return x.like
    return type(x)(_like(part) for part in x) if type(x) in (tuple, list) else x


class Tape:
    """What was asked for, in order."""

    def __init__(self) -> None:
        self.calls: list[Call | Shown] = []

    def constant(self, array: Array) -> Recorded:
        """An array that no step changes."""
        return Recorded(self, MetaArray(array.shape, str(array.dtype)), array)

    def given(self, shape: tuple[Any, ...], dtype: str) -> Recorded:
        """An array that is not made by a call."""
        return Recorded(self, MetaArray(shape, dtype))

    def note(self, function: Any, like: Any, mode: Mode, *arguments: Any, **options: Any) -> Recorded:
        """Remember a call of `function`, whose result's shape `like` tells; what it gives."""
        shape = like(*_like(arguments), **options)
        result = Recorded(self, shape)
        self.calls.append(Call(function, arguments, options, result, mode))
        return result

    def namespace(self, library: Any) -> SimpleNamespace:
        """The array library `library` as a tape's own; dtypes are their names."""
        own: dict[str, Any] = {name: self._function(name, getattr(library, name)) for name in FUNCTIONS - {"finfo"}}
        own |= {"asarray": self._asarray, "astype": self._astype, "arange": self._arange, "concat": self._concat}
        own["finfo"] = meta.NAMESPACE.finfo
        return SimpleNamespace(**own, **{name: name for name in DTYPES | OPTIONAL if name in meta.BITS})

    def _function(self, name: str, function: Any) -> Callable[..., Recorded]:
        like, ufunc = getattr(meta.NAMESPACE, name), getattr(np, name)
        mode: Mode = "view" if name in VIEWS else "out" if isinstance(ufunc, np.ufunc) else "new"
        called = ufunc if mode == "out" else function
        return lambda *arguments, **options: self.note(called, like, mode, *arguments, **options)

    def _arange(self, start: Any, stop: Any, dtype: str, device: None = None) -> Recorded:
        if type(stop - start) is int and stop - start == 1:
            return self.note(place, lambda *_: MetaArray((1,), dtype), "out", start, stop)
        return self.note(np.arange, meta.NAMESPACE.arange, "new", start, stop, dtype=dtype)

    def _concat(self, arrays: Any, axis: int = 0) -> Recorded:
        grows = any(type(size) is Poly for x in arrays for size in x.shape)
        return self.note(np.concatenate, meta.NAMESPACE.concat, "new" if grows else "out", arrays, axis=axis)

    def _astype(self, x: Recorded, dtype: str, copy: bool = True) -> Recorded:
        if x.dtype == dtype and not copy:
            return x
        grows = any(type(size) is Poly for size in x.shape)
        return self.note(np.astype if grows else cast, meta.NAMESPACE.astype, "new" if grows else "out", x, dtype)

    def _asarray(self, x: Any, dtype: str | None = None, device: None = None) -> Recorded:
        """Numbers of the host, the same in every step."""
        if isinstance(x, Recorded):
            return x if dtype is None else self._astype(x, dtype, copy=False)
        return self.constant(np.asarray(x, dtype=dtype))


class RecordingOps(FastOps):
    """The operations of `fast`, remembered. Those that NumPy does in more than one call are one call here."""

    def __init__(self, tape: Tape, fast: FastOps) -> None:
        xp = tape.namespace(fast.xp)
        super().__init__(Backend("numpy", xp, None, fast.backend.dtypes, meta.refuse_value), fast.dtype_name)
        self.tape, self.fast = tape, fast

    def joined(self, ws: Sequence[Linear]) -> Joined:
        real = join([Linear(*(None if x is None else x.array for x in (w.weight, w.bias))) for w in ws])
        return real._replace(
            across=None if real.across is None else self.tape.constant(real.across),
            bias=None if real.bias is None else self.tape.constant(real.bias),
        )

    def norm(self, kind: str, x: Array, w: Norm, eps: float) -> Array:
        if x.ndim != 2 or x.shape[0] != 1:
            return super(FastOps, self).norm(kind, x, w, eps)
        options = {"kind": kind, "eps": eps, "gain": w.gain, "bias": w.bias}
        return self.tape.note(self.fast.norm_row, lambda x, **_: x, "out", x, **options)

    def softmax(self, scores: Array, sinks: Array | None = None) -> Array:
        return self.tape.note(self.fast.softmax, lambda scores, _: scores, "new", scores, sinks)

    def masked(self, scores: Array, allowed: Array, first: int) -> Array:
        """`FastOps` writes over the scores: for one query there is little to save."""
        return super(FastOps, self).masked(scores, allowed, first)

    def activate(self, kind: str, x: Array) -> Array:
        function = self.fast.fast_activation(kind)
        if function is None:
            return super(FastOps, self).activate(kind, x)
        return self.tape.note(function, lambda x: x, "over", x)


class RecordingLayer:
    """Stands for one layer's cache."""

    def __init__(self, tape: Tape, layer: int, real: Any) -> None:
        self.tape, self.layer, self.real = tape, layer, real

    def update(self, keys: Recorded, values: Recorded, pos: Span, encode: Any) -> tuple[View]:
        keys, values = encode(keys, values, pos)
        view: View = self.real.preview(pos)
        made = [self.tape.given((x.shape[0], view.key_pos.size, x.shape[2]), x.dtype) for x in (keys, values)]
        self.tape.calls.append(Shown(self.layer, (keys, values), (made[0], made[1]), view))
        return (view._replace(keys=made[0], values=made[1]),)
