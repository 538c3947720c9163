"""What is timed: a model that is there, or random weights of a public model's shape."""

from math import prod
from pathlib import Path

from kvsim.arrays import get_backend
from kvsim.benchmark.machine import free_memory
from kvsim.benchmark.peers import save_random
from kvsim.blueprint import build_weights
from kvsim.config import Config
from kvsim.costs.catalogue import find_config, read_catalogue
from kvsim.errors import UsageError
from kvsim.loading.config_file import make_config
from kvsim.loading.gguf_file import GGUF
from kvsim.loading.loader import load
from kvsim.loading.places import BUNDLED
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model

ITEM = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def count_parameters(config: Config) -> int:
    """Numbers in all arrays, a tied head once."""
    sizes: list[int] = []
    build_weights(config, lambda _, shape: sizes.append(prod(shape)))
    return sum(sizes)


def open_subject(name: str, backend: str | None, device: str | None, dtype: str, folder: Path | None = None) -> Model:
    """The model to be timed, with attention in blocks; a name of the catalogue has random weights. `folder`: where
    to make a checkpoint of those that transformers can read.

    UsageError: no such model, one with an encoder, or one that does not fit into memory.
    """
    library = get_backend(backend, device)
    library.dtype(dtype)
    if not library.holds_data:
        raise UsageError("the backend {backend} has no data: there is nothing to time", backend=library.name)
    if name not in read_catalogue() or name in BUNDLED or Path(name).exists():
        model = load(name, backend=library, dtype=dtype, attention="blocked")
        _check_decoder(name, model.config)
        return model
    config = find_config(name)[1]
    _check_decoder(name, config)
    _check_memory(name, config, dtype)
    if folder is not None:
        save_random(read_catalogue()[name]["config"], folder)
        model = load(folder, backend=library, dtype=dtype, attention="blocked")
        model.name = name
        return model
    weights = random_weights(config, dtype="float32" if dtype == "bfloat16" else dtype)
    return Model(config, weights, name=name, backend=library, dtype=dtype, attention="blocked")


def _check_decoder(name: str, config: Config) -> None:
    if config.encoder is not None:
        raise UsageError("bench times models without an encoder, not {model}", model=name)


def _check_memory(name: str, config: Config, dtype: str) -> None:
    needed, free = count_parameters(config) * ITEM[dtype] * 5 // 4, free_memory()
    if free is not None and needed > free:
        raise UsageError(
            "the model {model} needs about {needed} B of memory, {free} B are free: use a smaller one",
            model=name,
            needed=f"{needed:,}",
            free=f"{free:,}",
        )


def find_context(name: str) -> int:
    """The longest text of the model, before its weights are read."""
    path = Path(name)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return make_config(GGUF(path).facts()).max_context
    return find_config(name)[1].max_context
