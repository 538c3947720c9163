"""What this installation and this machine are: facts found by trying, for `kvsim doctor`."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kvsim import __version__
from kvsim.arrays import BACKENDS, get_backend
from kvsim.arrays.host import usable_processors
from kvsim.errors import BackendError, KvsimError

PACKAGES = ("numpy", "click", "rich", "safetensors", "tokenizers", "array-api-compat", "cupy", "torch", "gguf")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


@dataclass(frozen=True)
class Try:
    """Something that was tried."""

    works: bool
    detail: str | KvsimError  # what it gave, or the error
    missing: bool = False  # not working because a library or a device is not there


@dataclass(frozen=True)
class Health:
    """Everything `kvsim doctor` tells."""

    versions: dict[str, str | None]  # kvsim, python and packages; None: not installed
    platform: str
    backends: dict[str, Try]
    blas: str
    processors: tuple[int, int]  # usable by this process, in the machine
    workers: int  # threads of elementwise work on large NumPy arrays
    attention: dict[str, int | None]  # its choices: queries computed at a time; None: all
    threads: dict[str, str]  # variables that are set
    terminal: dict[str, Any]  # tty, columns, encoding
    demo: Try

    @property
    def fine(self) -> bool:
        """Does everything work that is there?"""
        return self.demo.works and all(t.works or t.missing for t in self.backends.values())


def find_version(package: str) -> str | None:
    """The installed version; CuPy's wheels carry the CUDA version in their name."""
    names = (package, "cupy-cuda12x", "cupy-cuda13x", "cupy-rocm-7-0") if package == "cupy" else (package,)
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def find_versions() -> dict[str, str | None]:
    """kvsim, Python, and the packages that it may use; None: not installed."""
    packages = {package: find_version(package) for package in PACKAGES}
    return {"kvsim": __version__, "python": platform.python_version(), **packages}


def try_backend(name: str) -> Try:
    """A small product with a known answer: an import alone proves nothing."""
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
        return Try(False, error, missing=True)
    except Exception as error:  # whatever a broken library raises is what there is to say
        return Try(False, f"{type(error).__name__}: {error}")
    right = product == ([[5.0, 14.0], [14.0, 50.0]] if backend.holds_data else [2, 2])
    return Try(right, "[2, 3]·[3, 2] = " + str(product))


def find_blas() -> str:
    """The BLAS that NumPy was built with, by its own account."""
    import numpy as np

    config: Mapping[str, Any] = np.show_config(mode="dicts") or {}
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(blas[key]) for key in ("name", "version") if blas.get(key)) or "?"


def try_demo() -> Try:
    """Load the demo model and let it say its line."""
    from kvsim.generation.generate import generate
    from kvsim.loading.loader import load
    from kvsim.loading.places import BUNDLED

    try:
        text = generate(load("demo"), "中华人民", max_new_tokens=4).text or ""
    except KvsimError as error:
        return Try(False, error)
    return Try(text == "中华人民共和国成", f"{BUNDLED['demo']}: {text}")


def find_workers() -> int:
    from kvsim.fast.numpy_ops import count_threads

    return count_threads()


def find_attention() -> dict[str, int | None]:
    from kvsim.model import ATTENTION

    return dict(ATTENTION)


def examine(encoding: str) -> Health:
    """Look and try; nothing is changed. `encoding`: what the terminal was found with."""
    return Health(
        versions=find_versions(),
        platform=platform.platform(),
        backends={name: try_backend(name) for name in BACKENDS},
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
        demo=try_demo(),
    )
