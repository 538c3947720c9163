"""Files on disk to a `Model`: config, weights, tokenizer. One file for each family."""

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from kvsim.arrays import Backend, get_backend
from kvsim.blueprint import build_weights
from kvsim.config import Config
from kvsim.errors import FileError, UsageError, shortened
from kvsim.loading.checkpoint import Checkpoint, finite
from kvsim.loading.config_file import make_config, read_config, read_start
from kvsim.loading.families import get_family
from kvsim.loading.gguf_file import GGUF
from kvsim.loading.gguf_tokenizer import read_gguf_tokenizer
from kvsim.loading.sources import Source
from kvsim.loading.tokenizers import read_tokenizer
from kvsim.model import Model
from kvsim.weights import Weights

LATENT_FORMS = ("reexpanded", "absorbed", "cached_expanded")
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
            "no model {name}: use demo, the path of a folder with config.json and model.safetensors, or of a .gguf",
            name=shortened(name),
        )
    if not path.is_dir() and path.suffix.lower() != ".gguf":
        raise UsageError(
            "{name} is no model: that is a folder with config.json and model.safetensors, or a .gguf file", name=name
        )
    return path


def read_weights(config: Config, checkpoint: Checkpoint | GGUF, dtype: str) -> Weights:
    """Every array of the model, from a checkpoint which must hold no weight beside them."""
    family = get_family(config.family)
    made: dict[Source, Any] = {}

    def make(name: str, shape: tuple[int, ...]) -> Any:
        source = family.tensor(name, config)
        if source not in made:  # an encoder may share the decoder's token vectors
            made[source] = finite(checkpoint, source, shape, dtype)
        return made[source]

    weights = build_weights(config, make)
    ignored = list(family.IGNORED)
    if config.tied_head:
        head = family.tensor("head.weight", config).key
        ignored += [head, head.removeprefix(family.PREFIX)]
    left = sorted(key for key in checkpoint.unused if not any(fnmatchcase(key, p) for p in ignored))
    if left:
        raise FileError(
            "{path} holds {count} tensors that its config.json does not ask for, such as {key}",
            path=checkpoint.path,
            count=len(left),
            key=left[0],
        )
    return weights


def choose_latent(config: Config, form: str | None) -> Config:
    """The config with its latent attention computed in `form`. UsageError: no such form, or no latents."""
    if form is None:
        return config
    if form not in LATENT_FORMS:
        raise UsageError(
            "unknown latent {form}: use one of {known}", form=shortened(form), known=", ".join(LATENT_FORMS)
        )
    if config.latent is None:
        raise UsageError("this model has no latent attention: leave out latent={form}", form=shortened(form))
    return replace(config, latent=replace(config.latent, form=cast(Any, form)))


def load(
    model: str | Path,
    *,
    backend: str | Backend = "numpy",
    device: str | None = None,
    dtype: str = "float32",
    latent: str | None = None,
) -> Model:
    """The model in a folder in Hugging Face's format, a .gguf file, or a bundled one ("demo"), ready to run.

    The folder holds config.json, model.safetensors (or shards with an index) and, for text,
    tokenizer.json; an encoder-decoder's start token may stand in generation_config.json. Tensors are
    read one at a time and converted to `dtype`, in which everything is computed. `latent`: how latent
    attention is computed, "reexpanded" (as transformers does; the default), "absorbed" or
    "cached_expanded". GGUF files (extra gguf) are dequantised; their tokenizer needs the extra hf.

    Raises UsageError (no such model, backend, dtype or form), BackendError (backend not to be had) or
    FileError (a file that is not what it claims, tensors that contradict the config, NaN).
    """
    path = find_model(str(model))
    get_backend(backend, device).dtype(dtype)  # refused before anything is read
    checkpoint: Checkpoint | GGUF
    if path.is_file():
        checkpoint = GGUF(path)
        config = choose_latent(make_config(checkpoint.facts()), latent)
        tokenizer = read_gguf_tokenizer(checkpoint)
        checkpoint.forget_lists()
        weights = read_weights(config, checkpoint, dtype)
    else:
        config = read_start(path / "generation_config.json", read_config(path / "config.json"))
        config = choose_latent(config, latent)
        checkpoint = Checkpoint(path, get_family(config.family).PREFIX)
        weights = read_weights(config, checkpoint, dtype)
        tokenizer = read_tokenizer(path / "tokenizer.json", config.vocab_size)
    return Model(
        config,
        weights,
        tokenizer=tokenizer,
        name=str(model) if str(model) in BUNDLED else path.resolve().stem if path.is_file() else path.resolve().name,
        path=path,
        backend=backend,
        device=device,
        dtype=dtype,
    )
