"""The model that is timed: one on disk or bundled, or random weights of a public model's shape."""

from pathlib import Path

from kvsim.arrays import get_backend
from kvsim.benchmark.limits import free_memory
from kvsim.benchmark.peers import save_random
from kvsim.config import Config
from kvsim.costs.bytes.parameters import BYTES, count_parameters
from kvsim.costs.public.models import find_config, read_catalogue
from kvsim.errors import UsageError
from kvsim.loading.config_file import make_config
from kvsim.loading.gguf.file import GGUF
from kvsim.loading.loader import load
from kvsim.loading.places import BUNDLED
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model


def find_shape(name: str) -> Config:
    """The config of the model `name`, without reading weights. UsageError: no such model, or it has an encoder."""
    path = Path(name)
    gguf = path.is_file() and path.suffix.lower() == ".gguf"
    config = make_config(GGUF(path).facts()) if gguf else find_config(name)[1]
    if config.encoder is not None:
        raise UsageError("bench does not support models with an encoder, such as {model}", model=name)
    return config


def check_memory(name: str, config: Config, dtype: str, copies: int) -> None:
    """UsageError: free memory is less than `copies` of the weights (a peer has its own) and a quarter of one for the
    rest."""
    needed, free = count_parameters(config) * BYTES[dtype] * (4 * copies + 1) // 4, free_memory()
    if free is not None and needed > free:
        raise UsageError(
            "the model {model} needs about {needed} B of memory, {free} B are free: use a smaller one",
            model=name,
            needed=f"{needed:,}",
            free=f"{free:,}",
        )


def open_subject(
    name: str, backend: str | None, device: str | None, dtype: str, folder: Path | None = None,
    copies: int = 1, shape: Config | None = None,
) -> Model:  # fmt: skip
    """The model to be timed, with attention in blocks; the name of a public model gets random weights.

    `folder`: write such weights there as a checkpoint that transformers can read. `copies`: how many copies of the
    weights must fit in memory. `shape`: the model's config, if known (`find_shape`).
    UsageError: no such model, one with an encoder, or one that does not fit in memory.
    """
    library = get_backend(backend, device)
    library.dtype(dtype)
    if not library.holds_data:
        raise UsageError("the backend {backend} computes shapes only: there is nothing to time", backend=library.name)
    config = find_shape(name) if shape is None else shape
    check_memory(name, config, dtype, copies)
    if name not in read_catalogue() or name in BUNDLED or Path(name).exists():
        return load(name, backend=library, dtype=dtype, attention="blocked")
    if folder is not None:
        save_random(read_catalogue()[name]["config"], folder)
        model = load(folder, backend=library, dtype=dtype, attention="blocked")
        model.name = name
        return model
    weights = random_weights(config, dtype="float32" if dtype == "bfloat16" else dtype)
    return Model(config, weights, name=name, backend=library, dtype=dtype, attention="blocked")
