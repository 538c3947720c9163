"""The array libraries that a model can run on. A backend is a module in this folder and one line in `_MODULES`.

The model calls functions of the Python array API standard (https://data-apis.org/array-api) on the backend's namespace
`xp`, only those that `kvsim.arrays.contract` lists.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, NamedTuple

from kvsim.checks import check_text, is_name
from kvsim.errors import UsageError, shortened

Array = Any  # an array of the backend's library

_MODULES = {
    "numpy": "kvsim.arrays.host",
    "cupy": "kvsim.arrays.cupy_arrays",
    "torch": "kvsim.arrays.torch_arrays",
    "exact": "kvsim.arrays.exact",
    "meta": "kvsim.arrays.meta",
}
BACKENDS = tuple(_MODULES)


class Opened(NamedTuple):
    """The name and device given to `get_backend`, and the backend that it returned."""

    name: str
    device: str | None
    backend: "Backend"


class Backend(NamedTuple):
    """One array library on one device. A pickle holds its name and device, and loading it opens the library
    again. A copy is the same object."""

    name: str
    xp: Any  # the array namespace
    device: Any  # the device= of creation functions; None: the library's default
    dtypes: tuple[str, ...]  # names of the dtypes that it computes in
    to_host: Callable[[Array], Any]  # copies an array to a NumPy array
    holds_data: bool = True  # False: shapes and dtypes only
    in_place: bool = False  # True: NumPy's own arrays, for `kvsim.fast.numpy_ops`
    fixed_order: bool = False  # True: every sum is added in one fixed order
    running: Callable[[], AbstractContextManager[Any]] = nullcontext  # a context entered around every computation
    opened: Opened | None = None  # by `get_backend`

    def __copy__(self) -> "Backend":
        return self

    def __deepcopy__(self, _: Any) -> "Backend":
        return self

    def __reduce__(self) -> Any:
        """TypeError: a backend not made by `get_backend`, or with replaced functions, cannot be reopened by name."""
        opened, own = self.opened, ("name", "xp", "device", "to_host", "running")
        if opened is None or any(getattr(self, field) is not getattr(opened.backend, field) for field in own):
            raise TypeError(f"cannot pickle the backend {self.name}: it was not made by get_backend")
        return _reopen, (opened.name, opened.device, {field: getattr(self, field) for field in PLAIN})

    def dtype(self, name: str) -> Any:
        """The library's dtype called `name`. UsageError: the backend does not compute in it."""
        if not is_name(name, self.dtypes):
            raise UsageError(
                "unknown dtype {name}: the backend {backend} computes in {known}",
                name=shortened(name),
                backend=self.name,
                known=", ".join(self.dtypes),
            )
        return getattr(self.xp, name)


PLAIN = ("dtypes", "holds_data", "in_place", "fixed_order")  # fields that are plain data


def _reopen(name: str, device: str | None, plain: dict[str, Any]) -> Backend:
    """The backend of a pickle. BackendError: the library is not installed or the device does not exist."""
    return get_backend(name, device)._replace(**plain)


def get_backend(name: str | Backend | None = None, device: str | None = None) -> Backend:
    """The backend `name` on `device`; a `Backend` is returned as it is; None: KVSIM_BACKEND, or numpy.

    UsageError: unknown name or device. BackendError: the library is missing or does not work.
    """
    if isinstance(name, Backend):
        return name
    chosen = (os.environ.get("KVSIM_BACKEND") or "numpy") if name is None else name
    if not is_name(chosen, _MODULES):
        raise UsageError(
            "unknown backend {name}: use one of {known}", name=shortened(chosen), known=", ".join(BACKENDS)
        )
    if device is not None:
        check_text("device", device)
    backend: Backend = import_module(_MODULES[chosen]).open_backend(device)
    return backend._replace(opened=Opened(chosen, device, backend))
