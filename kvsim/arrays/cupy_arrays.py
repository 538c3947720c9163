"""CuPy, through array-api-compat: one GPU. (Not yet run on one: see docs/en/backends.md.)

A successful import proves nothing, because CuPy loads the driver, the compiler and cuBLAS at first use. Opening the
backend therefore runs a small product and reports which of them is missing.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvsim.arrays import Backend
from kvsim.arrays.contract import narrow
from kvsim.errors import BackendError, UsageError, shortened


def _import() -> tuple[Any, Any]:
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            'the backend cupy needs CuPy: pip install ".[gpu]" in a clone of kvsim for CUDA 12, or cupy-cuda13x or'
            " cupy-rocm-7-0 ({error})",
            error=shortened(error),
        ) from error
    try:
        import array_api_compat.cupy as namespace
    except ImportError as error:
        raise BackendError(
            "the backend {backend} needs array-api-compat: pip install array-api-compat ({error})",
            backend="cupy",
            error=shortened(error),
        ) from error
    return cupy, namespace


def count_devices(cupy: Any) -> int:
    """The number of GPUs. BackendError: no driver, or no GPU."""
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # CuPy's error classes cannot be imported without a driver
        if "NoDevice" in str(error):
            raise BackendError("the backend cupy finds no GPU: use --backend numpy") from error
        raise BackendError(
            "the backend cupy finds no GPU driver: install one, or use --backend numpy ({error})",
            error=shortened(str(error)),
        ) from error
    if count == 0:
        raise BackendError("the backend cupy finds no GPU: use --backend numpy")
    return count


def find_device(name: str | None, count: int) -> int:
    """The number N of "cuda:N". UsageError: another name, or no such GPU."""
    found = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", "cuda" if name is None else name)
    if found is None:
        raise UsageError("unknown device {device} of cupy: use cuda or cuda:N", device=shortened(name))
    number = int(found[1] or 0)
    if number >= count:
        raise UsageError(
            "there is no device {device}: this machine has {count}, from cuda:0", device=shortened(name), count=count
        )
    return number


def try_product(load_product: Callable[[], Callable[[Any, Any], Any]], cupy: Any) -> Callable[[Any, Any], Any]:
    """The batched product, after a test product. BackendError: the compiler or cuBLAS is missing or broken."""
    try:
        x = cupy.arange(6.0).reshape(2, 3) + 1.0  # the compiler
    except Exception as error:
        raise BackendError(
            "the backend cupy cannot compile for this GPU (NVRTC): pip install 'cupy-cuda12x[ctk]' ({error})",
            error=shortened(str(error)),
        ) from error
    try:
        matmul = load_product()
        small = (matmul(x, x.T), matmul(x[None, :, :], x.T[None, :, :])[0, :, :])
        right = all(product.get().tolist() == [[14.0, 32.0], [32.0, 77.0]] for product in small)
    except Exception as error:
        raise BackendError(
            "the backend cupy cannot multiply (cuBLAS): pip install 'cupy-cuda12x[ctk]' ({error})",
            error=shortened(str(error)),
        ) from error
    if not right:
        raise BackendError("the backend cupy multiplies wrongly: [2, 3]·[3, 2] is not what it should be")
    return matmul


def load_product() -> Callable[[Any, Any], Any]:
    from kvsim.arrays.cupy_products import matmul

    return matmul


def explain_memory(cupy: Any, error: Exception) -> BackendError:
    """The error for exhausted device memory: bytes requested, in use by this process, and free on the device."""
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    return BackendError(
        "out of device memory: asked for {asked} B, held {held} B, free {free} B of {total} B: use a smaller"
        " model, dtype or context",
        asked=asked[1] if asked else "?",
        held=f"{pool.used_bytes():,}",
        free=f"{free + pool.free_bytes():,}",
        total=f"{total:,}",
    )


def describe(backend: Backend) -> dict[str, str]:
    """The names and versions of the device and its libraries."""
    cupy, _ = _import()
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(backend.device.id)["name"]
    with backend.device:
        free, total = runtime.memGetInfo()
        blas = cupy.cuda.cublas.getVersion(cupy.cuda.device.get_cublas_handle())
    return {
        "device": f"{name.decode() if isinstance(name, bytes) else name} (cuda:{backend.device.id})",
        "compute": str(backend.device.compute_capability),
        "memory": f"{total:,} B, free {free:,} B",
        "driver": str(runtime.driverGetVersion()),
        "runtime": str(runtime.runtimeGetVersion()),
        "blas": str(blas),
        "platform": "ROCm" if runtime.is_hip else "CUDA",
    }


def open_backend(device: str | None) -> Backend:
    cupy, namespace = _import()
    where = cupy.cuda.Device(find_device(device, count_devices(cupy)))
    with where:
        matmul = try_product(load_product, cupy)

    @contextmanager
    def running() -> Iterator[None]:
        with where:
            try:
                yield
            except cupy.cuda.memory.OutOfMemoryError as error:
                raise explain_memory(cupy, error) from error

    return Backend(
        "cupy",
        narrow(namespace, matmul=matmul),
        where,
        ("float32", "float64", "float16"),
        cupy.asnumpy,
        running=running,
    )
