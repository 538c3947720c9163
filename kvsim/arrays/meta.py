"""Arrays with a shape and a dtype but no data: they count what a model does without computing it.

Dimensions are ints or symbols (`kvsim.counting.symbolic.Poly`). It has exactly the functions and
operators of the contract, which check their arguments as a real library does. Reading a value of such an array raises.
"""

import math
from types import NoneType, SimpleNamespace
from typing import Any, NoReturn

from kvsim.arrays import Backend
from kvsim.counting.symbolic import Poly
from kvsim.errors import UsageError, shortened

Shape = tuple[Any, ...]
ALL = slice(None)
BITS = {
    "bool": 8, "int8": 8, "uint8": 8, "int64": 64, "float8_e4m3fn": 8, "float16": 16, "bfloat16": 16, "float32": 32,
    "float64": 64,
}  # fmt: skip
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def refuse_value(*_: object, **__: object) -> NoReturn:
    """Raise the UsageError for reading a value."""
    raise UsageError(
        "the backend meta has shapes and no values: nothing can be read or chosen from them;"
        " use kvsim.count, or another backend"
    )


def same(a: Any, b: Any) -> bool:
    """Are two dimensions equal for every t?"""
    if type(a) is int and type(b) is int:
        return a == b
    return type(a) is type(b) and bool(a.coefficients == b.coefficients)


def broadcast(a: Shape, b: Shape) -> Shape:
    """The broadcast shape of both."""
    if a is b:
        return a
    if len(a) < len(b):
        a, b = b, a
    lead = len(a) - len(b)
    made = list(a)
    for at, y in enumerate(b, start=lead):
        x = made[at]
        if x is y or (type(y) is int and y == 1) or same(x, y):
            continue
        if not (type(x) is int and x == 1):
            raise ValueError(f"shapes {a} and {b} do not go together")
        made[at] = y
    return tuple(made)


def promote(a: str, b: str) -> str:
    """The result dtype of both."""
    if a == b:
        return a
    if a not in EPS or b not in EPS or BITS[a] == BITS[b]:
        raise TypeError(f"{a} and {b} do not go together")
    return a if BITS[a] > BITS[b] else b


class MetaArray:
    """A shape and a dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape, self.dtype = shape, dtype

    def __repr__(self) -> str:
        return f"<meta {self.dtype} {list(self.shape)}>"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def _with(self, other: Any) -> "MetaArray":
        """An elementwise operation with an array or a Python number."""
        if type(other) is MetaArray:
            if other.shape is self.shape and other.dtype == self.dtype:
                return self
            return MetaArray(broadcast(self.shape, other.shape), promote(self.dtype, other.dtype))
        if type(other) is float and self.dtype in EPS:
            return self
        if type(other) in (int, Poly) and self.dtype != "bool":
            return self
        raise TypeError(f"{self!r} and {type(other).__name__} {other!r} do not go together")

    def _compared(self, other: Any) -> "MetaArray":
        return MetaArray(self._with(other).shape, "bool")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _with
    __lt__ = __le__ = __gt__ = _compared
    __eq__ = _compared  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]
    __int__ = __float__ = __bool__ = __index__ = __array__ = __iter__ = __len__ = refuse_value

    def __neg__(self) -> "MetaArray":
        return self

    def __getitem__(self, key: Any) -> "MetaArray":
        keys = key if type(key) is tuple else (key,)
        made: list[Any] = []
        at = 0
        for k in keys:
            if type(k) is slice:
                made.append(self.shape[at] if k == ALL else sliced(self.shape[at], k))
                at += 1
            elif k is None:
                made.append(1)
            elif k is Ellipsis:
                width = len(self.shape) - sum(1 for k in keys if k is not None and k is not Ellipsis)
                made += self.shape[at : at + width]
                at += width
            else:
                check_index(self.shape[at], k)
                at += 1
        return MetaArray((*made, *self.shape[at:]), self.dtype)

    def __setitem__(self, key: Any, value: "MetaArray") -> None:
        place = self[key]
        stretched = broadcast(place.shape, value.shape)
        if value.dtype != self.dtype or not all(map(same, stretched, place.shape)) or len(stretched) != place.ndim:
            raise ValueError(f"{value!r} does not fit into {place!r}")


def check_index(size: Any, key: int) -> None:
    if type(key) is not int or not -size <= key < size:
        raise IndexError(f"index {key} of a dimension of {size}")


def _length(size: int, key: slice) -> int:
    """The size of a dimension of `size` after a slice: `len` of a range, which has no answer from 2^63 on."""
    start, stop, step = key.indices(size)
    return int(max(-(-(stop - start) // step), 0))


def sliced(size: Any, key: slice) -> Any:
    """The size of a dimension after a slice."""
    start, stop = key.start, key.stop
    if type(size) is int and type(start) in (int, NoneType) and type(stop) in (int, NoneType):
        return _length(size, key)
    if key.step not in (None, 1):
        raise TypeError(f"a slice with step {key.step} of {size}")
    start = 0 if start is None else start if start >= 0 else start + size
    stop = size if stop is None else min(stop if stop >= 0 else stop + size, size)
    return max(stop - (0 if type(start) is int and start == 0 else min(start, size)), 0)


# The functions of the contract


def _elementwise(x: MetaArray) -> MetaArray:
    if x.dtype not in EPS:
        raise TypeError(f"expected floating numbers, got {x!r}")
    return x


def _asarray(x: Any, dtype: str | None = None, device: None = None) -> MetaArray:
    if isinstance(x, MetaArray):
        return x if dtype in (None, x.dtype) else MetaArray(x.shape, dtype or x.dtype)
    if hasattr(x, "shape"):
        return MetaArray(tuple(x.shape), dtype or str(x.dtype))
    shape: list[int] = []
    while isinstance(x, list | tuple):
        shape.append(len(x))
        x = x[0] if x else None
    return MetaArray(tuple(shape), dtype or ("int64" if isinstance(x, int) else "float64"))


def _astype(x: MetaArray, dtype: str, copy: bool = True) -> MetaArray:
    return x if x.dtype == dtype else MetaArray(x.shape, dtype)


def _arange(start: Any, stop: Any, dtype: str = "int64", device: None = None) -> MetaArray:
    return MetaArray((max(stop - start, 0),), dtype)


def _empty(shape: Shape, dtype: str, device: None = None) -> MetaArray:
    return MetaArray(tuple(shape), dtype)


def _reduced(x: MetaArray, axis: Any, keepdims: bool, dtype: str) -> MetaArray:
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    gone = {a % x.ndim for a in axes}
    sizes = [(1 if a in gone else size) for a, size in enumerate(x.shape) if keepdims or a not in gone]
    return MetaArray(tuple(sizes), dtype)


def _reduce(x: MetaArray, axis: Any = None, keepdims: bool = False) -> MetaArray:
    return _reduced(x, axis, keepdims, x.dtype)


def _argmax(x: MetaArray, axis: Any = None, keepdims: bool = False) -> MetaArray:
    return _reduced(x, axis, keepdims, "int64")


def _any(x: MetaArray, axis: Any = None, keepdims: bool = False) -> MetaArray:
    return _reduced(x, axis, keepdims, "bool")


def _isnan(x: MetaArray) -> MetaArray:
    return MetaArray(_elementwise(x).shape, "bool")


def _both(a: MetaArray, b: Any) -> MetaArray:
    return a._with(b)


def _bits(a: MetaArray, b: Any) -> MetaArray:
    if a.dtype in EPS:
        raise TypeError(f"expected integers, got {a!r}")
    return a._with(b)


def _where(condition: MetaArray, a: Any, b: Any) -> MetaArray:
    if condition.dtype != "bool":
        raise TypeError(f"expected booleans, got {condition!r}")
    chosen = a._with(b) if isinstance(a, MetaArray) else b._with(a)
    return MetaArray(broadcast(condition.shape, chosen.shape), chosen.dtype)


def _concat(arrays: Any, axis: int = 0) -> MetaArray:
    first = arrays[0]
    axis %= first.ndim
    total: Any = 0
    for x in arrays:
        others = [*zip(x.shape[:axis], first.shape[:axis], strict=True)]
        others += zip(x.shape[axis + 1 :], first.shape[axis + 1 :], strict=True)
        if x.dtype != first.dtype or not all(same(a, b) for a, b in others):
            raise ValueError(f"{x!r} does not stand beside {first!r}")
        total = total + x.shape[axis]
    return MetaArray((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _stack(arrays: Any, axis: int = 0) -> MetaArray:
    first = arrays[0]
    if any(x.dtype != first.dtype or len(broadcast(x.shape, first.shape)) != first.ndim for x in arrays):
        raise ValueError(f"{list(arrays)} are not of one kind")
    place = axis % (first.ndim + 1)
    return MetaArray((*first.shape[:place], len(arrays), *first.shape[place:]), first.dtype)


def _broadcast_to(x: MetaArray, shape: Shape) -> MetaArray:
    return MetaArray(broadcast(x.shape, tuple(shape)), x.dtype)


def _reshape(x: MetaArray, shape: Shape) -> MetaArray:
    size = math.prod(x.shape)
    known = math.prod(s for s in shape if not (type(s) is int and s == -1))
    made = tuple(size // known if type(s) is int and s == -1 else s for s in shape)
    if not same(math.prod(made), size):
        raise ValueError(f"{x!r} cannot take the shape {shape}")
    return MetaArray(made, x.dtype)


def _permute_dims(x: MetaArray, axes: tuple[int, ...]) -> MetaArray:
    return MetaArray(tuple(x.shape[a] for a in axes), x.dtype)


def _matrix_transpose(x: MetaArray) -> MetaArray:
    *batch, m, n = x.shape
    return MetaArray((*batch, n, m), x.dtype)


def _take(x: MetaArray, indices: MetaArray, axis: int = 0) -> MetaArray:
    if indices.dtype != "int64" or indices.ndim != 1:
        raise TypeError(f"expected a list of indices, got {indices!r}")
    return MetaArray((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


def matmul(a: MetaArray, b: MetaArray) -> MetaArray:
    if a.dtype != b.dtype or not same(a.shape[-1], b.shape[-2]):
        raise ValueError(f"{a!r} and {b!r} cannot be multiplied")
    return MetaArray((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)


NAMESPACE = SimpleNamespace(
    abs=_elementwise, any=_any, arange=_arange, argmax=_argmax, argsort=refuse_value, asarray=_asarray,
    astype=_astype, bitwise_and=_bits, bitwise_right_shift=_bits, broadcast_to=_broadcast_to, concat=_concat,
    cos=_elementwise, empty=_empty, exp=_elementwise,
    finfo=lambda dtype: SimpleNamespace(bits=BITS[dtype], eps=EPS[dtype]),
    isnan=_isnan, logical_and=_both, matmul=matmul,
    matrix_transpose=_matrix_transpose, max=_reduce, maximum=_both, mean=_reduce, min=_reduce,
    permute_dims=_permute_dims, reshape=_reshape, round=_elementwise, sin=_elementwise, sort=refuse_value,
    sqrt=_elementwise, stack=_stack, sum=_reduce, take=_take, tanh=_elementwise, where=_where,
    zeros_like=_elementwise, erf=_elementwise,
    **{name: name for name in BITS if name != "bool"},
)  # fmt: skip


def open_backend(device: str | None) -> Backend:
    if device is not None:
        raise UsageError("the backend meta runs on no device: leave out {device}", device=shortened(device))
    dtypes = ("float32", "float64", "float16", "bfloat16")
    return Backend("meta", NAMESPACE, None, dtypes, refuse_value, holds_data=False)
