"""Files on disk to a `Model`: config, weights, tokenizer. One file for each family."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kvsim.arrays import Backend, get_backend
from kvsim.blueprint import build_weights
from kvsim.config import Config
from kvsim.errors import FileError
from kvsim.loading.checkpoint import Checkpoint, finite
from kvsim.loading.config_file import choose_latent, make_config, read_config_facts, read_start
from kvsim.loading.families import get_family
from kvsim.loading.gguf_file import GGUF
from kvsim.loading.gguf_tokenizer import read_gguf_tokenizer
from kvsim.loading.places import BUNDLED, find_model
from kvsim.loading.sources import Source
from kvsim.loading.tokenizers import read_tokenizer
from kvsim.model import Model
from kvsim.weights import Weights


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


def shapes(library: Backend, config: Config, dtype: str) -> Weights:
    """Every array of the model without its data."""
    return build_weights(config, lambda name, shape: library.xp.empty(shape, dtype=library.dtype(dtype)))


def load(
    model: str | Path,
    *,
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str = "float32",
    latent: str | None = None,
    attention: str = "square",
) -> Model:
    """The model in a folder in Hugging Face's format, a .gguf file, or a bundled one ("demo"), ready to run.

    The folder holds config.json, model.safetensors (or shards with an index) and, for text,
    tokenizer.json; an encoder-decoder's start token may stand in generation_config.json. Tensors are
    read one at a time and converted to `dtype`, in which everything is computed, by the array library
    `backend` ("numpy", "cupy", "torch", "exact", "meta"; else what KVSIM_BACKEND says, or numpy) on its
    `device`; meta has shapes alone and reads no tensor. `latent`: how latent attention is computed,
    "reexpanded" (as transformers does; the default), "absorbed" or "cached_expanded". `attention`: "square" (the
    default) or "blocked", which leaves out most of what the causal mask hides: same logits, fewer products. GGUF
    files (extra gguf) are dequantised; their tokenizer needs the extra hf.

    Raises UsageError (no such model, backend, dtype or form), BackendError (backend not to be had) or
    FileError (a file that is not what it claims, tensors that contradict the config, NaN).
    """
    path = find_model(str(model))
    library = get_backend(backend, device)
    library.dtype(dtype)  # refused before anything is read
    stored = "float32" if dtype == "bfloat16" else dtype  # NumPy, which reads, has no bfloat16
    if path.is_file():
        checkpoint = GGUF(path)
        config = choose_latent(make_config(checkpoint.facts()), latent)
        tokenizer = read_gguf_tokenizer(checkpoint)
        checkpoint.forget_lists()
        weights = read_weights(config, checkpoint, stored) if library.holds_data else shapes(library, config, dtype)
    else:
        config, assumed = read_config_facts(path / "config.json")
        config = read_start(path / "generation_config.json", config, assumed)
        config = choose_latent(config, latent)
        if library.holds_data:
            weights = read_weights(config, Checkpoint(path, get_family(config.family).PREFIX), stored)
        else:
            weights = shapes(library, config, dtype)
        tokenizer = read_tokenizer(path / "tokenizer.json", config.vocab_size)
    return Model(
        config,
        weights,
        tokenizer=tokenizer,
        name=str(model) if str(model) in BUNDLED else path.resolve().stem if path.is_file() else path.resolve().name,
        path=path,
        backend=library,
        dtype=dtype,
        attention=attention,
    )
