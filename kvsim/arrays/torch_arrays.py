"""PyTorch, through array-api-compat, on the processor or any device of torch ("cuda", "cuda:1", "mps")."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kvsim.arrays import Backend
from kvsim.arrays.contract import narrow
from kvsim.errors import BackendError, UsageError, shortened


def _import() -> tuple[Any, Any]:
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            'the backend torch needs PyTorch: pip install ".[torch]" in a clone of kvsim ({error})',
            error=shortened(error),
        ) from error
    try:
        import array_api_compat.torch as namespace
    except ImportError as error:
        raise BackendError(
            "the backend {backend} needs array-api-compat: pip install array-api-compat ({error})",
            backend="torch",
            error=shortened(error),
        ) from error
    return torch, namespace


def _find_device(torch: Any, name: str | None) -> Any:
    """The torch device called `name`, after a trial allocation. UsageError: unknown to torch. BackendError: not on
    this machine."""
    try:
        device = torch.device("cpu" if name is None else name)
    except RuntimeError as error:
        raise UsageError("unknown device {device} of torch: use cpu, cuda or cuda:N", device=shortened(name)) from error
    if device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            "there is no device {device}: this machine has {count}, from cuda:0",
            device=shortened(name),
            count=torch.cuda.device_count(),
        )
    try:
        torch.zeros(1, device=device).cpu().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackendError(
            "torch cannot use the device {device}: {error}", device=shortened(name), error=shortened(error)
        ) from error
    return device


def open_backend(device: str | None) -> Backend:
    torch, namespace = _import()
    where = _find_device(torch, device)

    def asarray(x: Any, dtype: Any = None, device: Any = None) -> Any:
        with warnings.catch_warnings():
            # Weights are only read, so torch's warning about a read-only NumPy array does not apply.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return namespace.asarray(x, dtype=dtype, device=device)

    @contextmanager
    def running() -> Iterator[None]:
        try:
            with torch.no_grad():
                yield
        except torch.OutOfMemoryError as error:
            raise BackendError(
                "out of memory on the device {device}: {error}", device=where, error=shortened(str(error))
            ) from error

    return Backend(
        "torch",
        narrow(namespace, asarray=asarray),
        where,
        ("float32", "float64", "float16", "bfloat16"),
        lambda x: (x.float() if x.dtype == torch.bfloat16 else x).cpu().numpy(),  # NumPy has no bfloat16
        running=running,
    )
