"""Which array library runs. A backend is a module of this room and one line in `_MODULES`.

The mathematics calls the Python array API standard (https://data-apis.org/array-api) on the
backend's namespace `xp`; NumPy >= 2 is such a namespace by itself.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from kvsim.errors import BackendError, UsageError

Array = Any  # an array of whichever library runs

_MODULES = {"numpy": "kvsim.arrays.host"}
PLANNED = ("cupy", "torch", "exact", "meta")
BACKENDS = (*_MODULES, *PLANNED)


class Backend(NamedTuple):
    """One array library on one device."""

    name: str
    xp: Any  # the namespace
    device: Any  # what creation functions take as device=; None is the library's own choice
    dtypes: tuple[str, ...]  # what it can compute in
    to_host: Callable[[Array], Any]  # a copy as a NumPy array

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


def get_backend(name: str | Backend, device: str | None = None) -> Backend:
    """The backend `name` on `device`, or the one you made yourself.

    UsageError: no such name. BackendError: not to be had.
    """
    if isinstance(name, Backend):
        return name
    if name in PLANNED:
        raise BackendError(
            "the backend {name} is not in this version of kvsim: use {known}",
            name=name,
            known=", ".join(_MODULES),
        )
    if name not in _MODULES:
        raise UsageError("unknown backend {name}: use one of {known}", name=repr(name), known=", ".join(BACKENDS))
    backend: Backend = import_module(_MODULES[name]).open_backend(device)
    return backend
