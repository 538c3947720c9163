"""The state of this installation and this machine, found by trying it out: what `kvsim doctor` reports."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kvsim.arrays import BACKENDS, get_backend
from kvsim.arrays.host import usable_processors
from kvsim.errors import BackendError, KvsimError
from kvsim.schemas import VERSION
from kvsim.schemas.display import mimebundle

PACKAGES = ("numpy", "click", "rich", "safetensors", "tokenizers", "array-api-compat", "cupy", "torch", "gguf")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


@dataclass(frozen=True)
class Check:
    """The result of trying out a backend or the demo model."""

    works: bool
    detail: str | KvsimError  # what was computed, or the error
    missing: bool = False  # does not work because a library or a device is not installed


@dataclass(frozen=True)
class Health:
    """Everything that `kvsim doctor` prints."""

    versions: dict[str, str | None]  # of kvsim, Python and packages; None: not installed
    platform: str
    backends: dict[str, Check]
    blas: str
    processors: tuple[int, int]  # usable by this process, in the machine
    workers: int  # threads of elementwise work on large NumPy arrays
    attention: dict[str, int | None]  # choices of load(attention=): queries computed at a time; None: all
    threads: dict[str, str]  # those of THREAD_VARIABLES that are set
    terminal: dict[str, Any]  # "tty", "columns" (0: unknown), "encoding"
    demo: Check

    _repr_mimebundle_ = mimebundle

    @property
    def works(self) -> bool:
        """Do the demo model and all installed backends work?"""
        return self.demo.works and all(check.works or check.missing for check in self.backends.values())


def find_version(package: str) -> str | None:
    """The installed version, or None. CuPy's wheels have the CUDA version in their name."""
    names = (package, "cupy-cuda12x", "cupy-cuda13x", "cupy-rocm-7-0") if package == "cupy" else (package,)
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def find_versions() -> dict[str, str | None]:
    """The versions of kvsim, Python, and the packages that kvsim may use; None: not installed."""
    packages = {package: find_version(package) for package in PACKAGES}
    return {"kvsim": VERSION, "python": platform.python_version(), **packages}


def check_backend(name: str) -> Check:
    """Compute a small product with a known result: that a library can be imported does not prove that it works."""
    try:
        backend = get_backend(name)
        from kvsim.ops import Ops
        from kvsim.weights import Linear

        ops = Ops(backend, "float32")
        xp = backend.xp
        with ops.running():
            x = xp.reshape(xp.astype(ops.arange(0, 6), ops.dtype), (2, 3))
            made = ops.linear("head", x, Linear(x))
            product = backend.to_host(made).tolist() if backend.holds_data else list(made.shape)
    except BackendError as error:
        return Check(False, error, missing=True)
    except Exception as error:  # a broken library may raise anything
        return Check(False, f"{type(error).__name__}: {error}")
    right = product == ([[5.0, 14.0], [14.0, 50.0]] if backend.holds_data else [2, 2])
    return Check(right, "[2, 3]·[3, 2] = " + str(product))


def find_blas() -> str:
    """The name and version of the BLAS that NumPy was built with; "?": unknown."""
    import numpy as np

    config: Mapping[str, Any] = np.show_config(mode="dicts") or {}
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(blas[key]) for key in ("name", "version") if blas.get(key)) or "?"


def check_demo() -> Check:
    """Load the demo model and generate its known text."""
    from kvsim.generation.generate import generate
    from kvsim.loading.loader import load
    from kvsim.loading.places import BUNDLED

    try:
        text = generate(load("demo"), "中华人民", max_new_tokens=4).text or ""
    except KvsimError as error:
        return Check(False, error)
    return Check(text == "中华人民共和国成", f"{BUNDLED['demo']}: {text}")


def find_workers() -> int:
    """The number of threads of elementwise work on large NumPy arrays."""
    from kvsim.fast.numpy_ops import count_threads

    return count_threads()


def find_attention() -> dict[str, int | None]:
    """The choices of load(attention=), and how many queries each computes at a time; None: all."""
    from kvsim.transformer.attention import ATTENTION

    return dict(ATTENTION)


def examine(encoding: str) -> Health:
    """Find versions and settings, and try out backends and the demo model; nothing is changed.

    `encoding`: that of stdout before it was changed to UTF-8.
    """
    return Health(
        versions=find_versions(),
        platform=platform.platform(),
        backends={name: check_backend(name) for name in BACKENDS},
        blas=find_blas(),
        processors=(usable_processors(), os.cpu_count() or 1),
        workers=find_workers(),
        attention=find_attention(),
        threads={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        terminal={
            "tty": sys.stdout is not None and sys.stdout.isatty(),
            "columns": shutil.get_terminal_size(fallback=(0, 0)).columns,
            "encoding": encoding,
        },
        demo=check_demo(),
    )
