"""Loads a `Model` from files: config, weights, tokenizer."""

from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.arrays import Backend, get_backend
from kvsim.blueprint import build_weights
from kvsim.checks import check_kind
from kvsim.config import Config
from kvsim.errors import FileError, Words, plain
from kvsim.loading.checkpoint import Checkpoint, Stored, check_shape, finite
from kvsim.loading.config_file import choose_latent, make_config, read_config_facts, read_start
from kvsim.loading.families import get_family
from kvsim.loading.gguf.file import GGUF
from kvsim.loading.gguf.tokenizer import read_gguf_tokenizer
from kvsim.loading.places import BUNDLED, find_model
from kvsim.loading.sources import Source
from kvsim.loading.tokenizers.reading import read_tokenizer
from kvsim.model import Model
from kvsim.text import Tokenizer
from kvsim.transformer.attention import check_attention
from kvsim.weights import Weights


def check_weights(config: Config, checkpoint: Stored) -> None:
    """FileError: the checkpoint lacks an array of the model, holds one in another shape, or holds weights that the
    config does not ask for. Nothing is allocated."""
    family = get_family(config.family)
    build_weights(config, lambda name, shape: check_shape(checkpoint, family.tensor(name, config), shape))
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
            key=plain(left[0]),
        )


def read_weights(config: Config, checkpoint: Stored, dtype: str) -> Weights:
    """Every array of the model. FileError: as `check_weights`, before anything is allocated; a number that is NaN or
    infinite; a file that changes meanwhile."""
    check_weights(config, checkpoint)
    family = get_family(config.family)
    made: dict[Source, Any] = {}

    def make(name: str, shape: tuple[int, ...]) -> Any:
        source = family.tensor(name, config)
        if source not in made:  # an encoder may share the decoder's embeddings
            made[source] = finite(checkpoint, source, shape, dtype)
        return made[source]

    return build_weights(config, make)


def empty_weights(library: Backend, config: Config, dtype: str) -> Weights:
    """Every array of the model, shapes without data."""
    return build_weights(config, lambda name, shape: library.xp.empty(shape, dtype=library.dtype(dtype)))


class Parts(NamedTuple):
    """All that a model's files hold."""

    config: Config
    weights: Weights
    tokenizer: Tokenizer | None


def read_gguf(path: Path, library: Backend, dtype: str, latent: str | None) -> Parts:
    """The model in a GGUF file, dequantised."""
    checkpoint = GGUF(path)
    config = choose_latent(make_config(checkpoint.facts()), latent)
    tokenizer = read_gguf_tokenizer(checkpoint, config.vocab_size)
    checkpoint.forget_lists()
    if library.holds_data:
        weights = read_weights(config, checkpoint, host_dtype(dtype))
    else:
        weights = empty_weights(library, config, dtype)
    return Parts(config, weights, tokenizer)


def read_folder(path: Path, library: Backend, dtype: str, latent: str | None) -> Parts:
    """The model in a folder in Hugging Face's format."""
    config, assumed = read_config_facts(path / "config.json")
    config = read_start(path / "generation_config.json", config, assumed)
    config = choose_latent(config, latent)
    if library.holds_data:
        weights = read_weights(config, Checkpoint(path, get_family(config.family).PREFIX), host_dtype(dtype))
    else:
        weights = empty_weights(library, config, dtype)
    return Parts(config, weights, read_tokenizer(path / "tokenizer.json", config.vocab_size))


def host_dtype(dtype: str) -> str:
    """The dtype in which NumPy reads weights for `dtype`: float32 for bfloat16, which NumPy lacks."""
    return "float32" if dtype == "bfloat16" else dtype


def load(
    model: str | Path,
    *,
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str = "float32",
    latent: str | None = None,
    attention: str = "square",
) -> Model:
    """Load a model: a folder in Hugging Face's format, a .gguf file, or a bundled one ("demo").

    The folder holds config.json, model.safetensors (or shards with an index) and, for text, tokenizer.json; an
    encoder-decoder's start token may be in generation_config.json. GGUF files (extra gguf) are dequantised; their
    tokenizer needs the extra hf. Tensors are read one at a time and converted to `dtype`, in which everything is
    computed.

    `backend`: "numpy", "cupy", "torch", "exact" or "meta" (default: KVSIM_BACKEND, or numpy), on its `device`; meta
    has shapes alone and reads no tensor. `latent`: the form of latent attention, "reexpanded" (as transformers
    computes it; the default), "absorbed" or "cached_expanded". `attention`: "square" (the default), or "blocked",
    which skips most of what the causal mask hides: the same logits from fewer products.

    UsageError: no such model, unknown backend, dtype or form. BackendError: the backend is not installed or does not
    work. FileError: a malformed file, tensors that contradict the config, NaN.
    """
    check_kind("model", isinstance(model, str | PathLike), model, Words("the name or the path of a model"))
    path = find_model(str(model))
    check_attention(attention)
    library = get_backend(backend, device)
    library.dtype(dtype)  # an unknown dtype is refused before anything is read
    read = read_gguf if path.is_file() else read_folder
    config, weights, tokenizer = read(path, library, dtype, latent)
    bundled, resolved = str(model) in BUNDLED, path.resolve()
    return Model(
        config,
        weights,
        tokenizer=tokenizer,
        name=str(model) if bundled else resolved.stem if path.is_file() else resolved.name,
        path=path,
        backend=library,
        dtype=dtype,
        attention=attention,
    )
