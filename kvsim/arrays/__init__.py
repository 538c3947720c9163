"""Which array library runs. A backend is a module of this room and one line in `_MODULES`.

The mathematics calls the Python array API standard (https://data-apis.org/array-api) on the
backend's namespace `xp`, and of that only what `kvsim.arrays.contract` lists.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, NamedTuple

from kvsim.errors import UsageError, shortened

Array = Any  # an array of whichever library runs

_MODULES = {
    "numpy": "kvsim.arrays.host",
    "cupy": "kvsim.arrays.cupy_arrays",
    "torch": "kvsim.arrays.torch_arrays",
    "exact": "kvsim.arrays.exact",
    "meta": "kvsim.arrays.meta",
}
BACKENDS = tuple(_MODULES)


class Opened(NamedTuple):
    """What `get_backend` was asked for, and what it made of that."""

    name: str
    device: str | None
    backend: "Backend"


class Backend(NamedTuple):
    """One array library on one device. Pickled as its name and device: the library is opened again where it is loaded.
    A copy is the same object."""

    name: str
    xp: Any  # the namespace
    device: Any  # what creation functions take as device=; None is the library's own choice
    dtypes: tuple[str, ...]  # what it can compute in
    to_host: Callable[[Array], Any]  # a copy as a NumPy array
    holds_data: bool = True  # False: shapes and dtypes only
    in_place: bool = False  # True: NumPy's own arrays, for `kvsim.fast.numpy_ops`
    fixed_order: bool = False  # True: every sum adds in one order, so that equal sums are equal bit for bit
    running: Callable[[], AbstractContextManager[Any]] = nullcontext  # entered around all that computes
    opened: Opened | None = None  # by `get_backend`

    def __copy__(self) -> "Backend":
        return self

    def __deepcopy__(self, _: Any) -> "Backend":
        return self

    def __reduce__(self) -> Any:
        """TypeError: made by hand, or with functions of its own, so that its name does not say what it is."""
        opened, own = self.opened, ("name", "xp", "device", "to_host", "running")
        if opened is None or any(getattr(self, field) is not getattr(opened.backend, field) for field in own):
            raise TypeError(f"cannot pickle the backend {self.name}: it was not made by get_backend")
        return _reopen, (opened.name, opened.device, {field: getattr(self, field) for field in PLAIN})

    def dtype(self, name: str) -> Any:
        """The library's dtype of that name; UsageError for one it cannot compute in."""
        if name not in self.dtypes:
            raise UsageError(
                "unknown dtype {name}: the backend {backend} computes in {known}",
                name=repr(name),
                backend=self.name,
                known=", ".join(self.dtypes),
            )
        return getattr(self.xp, name)


PLAIN = ("dtypes", "holds_data", "in_place", "fixed_order")  # fields that are plain data


def _reopen(name: str, device: str | None, plain: dict[str, Any]) -> Backend:
    """A backend that was pickled. BackendError: the library or the device is not there."""
    return get_backend(name, device)._replace(**plain)


def get_backend(name: str | Backend | None = None, device: str | None = None) -> Backend:
    """The backend `name` on `device`, or the one you made yourself; None: KVSIM_BACKEND, or numpy.

    UsageError: no such name, or no such device. BackendError: not to be had.
    """
    if isinstance(name, Backend):
        return name
    chosen = name or os.environ.get("KVSIM_BACKEND") or "numpy"
    if chosen not in _MODULES:
        raise UsageError(
            "unknown backend {name}: use one of {known}", name=shortened(chosen), known=", ".join(BACKENDS)
        )
    backend: Backend = import_module(_MODULES[chosen]).open_backend(device)
    return backend._replace(opened=Opened(chosen, device, backend))
