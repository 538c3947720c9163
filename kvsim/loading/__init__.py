"""Files on disk to a `Model`: config, weights, tokenizer. One file for each family."""

from fnmatch import fnmatchcase
from pathlib import Path

from kvsim.arrays import get_backend
from kvsim.config import Config
from kvsim.errors import FileError, UsageError, shortened
from kvsim.loading.checkpoint import Checkpoint, finite
from kvsim.loading.config_file import read_config
from kvsim.loading.families import get_family
from kvsim.loading.tokenizers import read_tokenizer
from kvsim.model import Model
from kvsim.weights import Weights, build_weights

BUNDLED = {"demo": Path(__file__).resolve().parent.parent / "demo"}


def find_model(name: str) -> Path:
    """The folder of a bundled model's name, or of a path. UsageError: there is no such thing."""
    if name in BUNDLED:
        return BUNDLED[name]
    try:
        path = Path(name).expanduser()
        found = bool(name) and path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, nobody's home, a NUL byte
        found = False
    if not found:
        raise UsageError(
            "no model {name}: use demo, or the path of a folder with config.json and model.safetensors",
            name=shortened(name),
        )
    if not path.is_dir():
        raise UsageError("{name} is no folder: a model is a folder with config.json and model.safetensors", name=name)
    return path


def read_weights(config: Config, checkpoint: Checkpoint, dtype: str) -> Weights:
    """Every array of the model, from the checkpoint, which must hold no weight beside them."""
    family = get_family(config.family)
    weights = build_weights(config, lambda name, shape: finite(checkpoint, family.tensor(name, config), shape, dtype))
    ignored = list(family.IGNORED) + ([family.tensor("head.weight", config).key] if config.tied_head else [])
    left = sorted(key for key in checkpoint.unused if not any(fnmatchcase(key, p) for p in ignored))
    if left:
        raise FileError(
            "{path} holds {count} tensors that its config.json does not ask for, such as {key}",
            path=checkpoint.path,
            count=len(left),
            key=left[0],
        )
    return weights


def load(model: str | Path, *, backend: str = "numpy", device: str | None = None, dtype: str = "float32") -> Model:
    """The model in a folder in Hugging Face's format, or a bundled one ("demo"), ready to run.

    The folder holds config.json, model.safetensors and, for text, tokenizer.json. Tensors are read
    one at a time and converted to `dtype`, in which everything is computed.

    Raises UsageError (no such model, backend or dtype), BackendError (backend not to be had) or
    FileError (a file that is not what it claims, tensors that contradict the config, NaN).
    """
    path = find_model(str(model))
    get_backend(backend, device).dtype(dtype)  # refused before anything is read
    config = read_config(path / "config.json")
    return Model(
        config,
        read_weights(config, Checkpoint(path / "model.safetensors"), dtype),
        tokenizer=read_tokenizer(path / "tokenizer.json", config.vocab_size),
        name=str(model) if str(model) in BUNDLED else path.resolve().name,
        path=path,
        backend=backend,
        device=device,
        dtype=dtype,
    )
