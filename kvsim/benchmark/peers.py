"""Other implementations with the same weights, timed only after their logits have been compared with kvsim's."""

import copy
import inspect
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.benchmark.decoding import make_ids
from kvsim.benchmark.limits import Clock
from kvsim.blueprint import build_weights
from kvsim.errors import BackendError, KvsimError, UsageError, shortened
from kvsim.loading.families import get_family
from kvsim.loading.sources import Source
from kvsim.model import Model
from kvsim.weights import list_arrays

PEERS = ("transformers", "torch")


def state_dict(model: Model) -> dict[str, Any]:
    """The model's arrays under their names in a checkpoint.

    UsageError: the family stores arrays in another form, such as several in one.
    """
    distinct = {id(array): array for array in list_arrays(model.weights)}  # a tied head is listed once
    family, arrays, found = get_family(model.config.family), iter(distinct.values()), {}

    def take(name: str, shape: tuple[int, ...]) -> None:
        source: Source = family.tensor(name, model.config)
        if source.take is not None or source.plus:
            raise UsageError(
                "checkpoints of the family {family} store arrays in another form than kvsim: a peer needs the path of a"
                " checkpoint",
                family=model.config.family,
            )
        found[source.key] = next(arrays)

    build_weights(model.config, take)
    return found


class TorchPeer:
    """kvsim's own model on torch, attention in blocks."""

    def __init__(self, model: Model) -> None:
        self.model = Model(model.config, model.weights, backend="torch", dtype=model.dtype, attention="blocked")
        self.cache = self.model.new_cache("dynamic")

    def logits(self, ids: list[int]) -> Any:
        """Logits [T, V] on the host, without a cache."""
        return self.model.ops.backend.to_host(self.model(ids))

    def fill(self, ids: list[int]) -> None:
        """Feed those of `ids` that the cache has not seen."""
        if len(ids) > self.cache.seen:
            self.model(ids[self.cache.seen :], self.cache, logits="last")

    def step(self, token: int, clock: Clock) -> float:
        """Seconds to feed `token` and choose the next one; the cache is as before afterwards."""
        seen = self.cache.seen
        taken = clock(lambda: int(self.model([token], self.cache, logits="last")[0, :].argmax()))
        self.cache.crop(seen)
        return taken


def import_transformers() -> tuple[Any, Any]:
    """torch and transformers, with transformers' warnings and progress bars off. BackendError: not installed."""
    try:
        torch, transformers = import_module("torch"), import_module("transformers")
    except ImportError as error:
        raise BackendError(
            "the peer transformers is not installed: pip install transformers torch ({error})", error=shortened(error)
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


class TransformersPeer:
    """transformers' model of the same config (sdpa attention, its own cache)."""

    def __init__(self, model: Model) -> None:
        torch, transformers = import_transformers()
        self.torch = torch
        kind = getattr(torch, model.dtype)
        if model.path is not None and model.path.is_dir():
            made = transformers.AutoModelForCausalLM.from_pretrained(model.path, dtype=kind)
        else:
            made = _load_weights(model, transformers, torch, kind)
        self.model: Any = made
        self.model.eval()
        self.seen = 0
        self.new_cache = partial(transformers.DynamicCache, config=self.model.config)
        self.cache = self.new_cache()
        # transformers 5.24 renamed forward's argument past_key_values to cache, and warns about the old name.
        names = inspect.signature(self.model.forward).parameters
        self.keyword = "cache" if "cache" in names else "past_key_values"
        self.windows = any(kind.window is not None for kind in model.config.layers)

    def forward(self, ids: Any, cache: Any = None, **options: Any) -> Any:
        """The model's output for ids [1, T], which follow the tokens in `cache`."""
        return self.model(input_ids=ids, **{self.keyword: cache}, use_cache=cache is not None, **options)

    def logits(self, ids: list[int]) -> Any:
        with self.torch.inference_mode():
            return self.model(input_ids=self.torch.tensor([ids])).logits[0].float().numpy()

    def fill(self, ids: list[int]) -> None:
        if len(ids) == self.seen:
            return
        new, self.seen = self.torch.tensor([ids[self.seen :]]), len(ids)
        with self.torch.inference_mode():
            self.forward(new, self.cache, logits_to_keep=1)

    def step(self, token: int, clock: Clock) -> float:
        one = self.torch.tensor([[token]])

        def run() -> int:
            with self.torch.inference_mode():
                out = self.forward(one, self.cache)
            return int(out.logits[0, -1].argmax())

        kept = copy.deepcopy(self.cache) if self.windows else None  # a full window cannot be cropped
        taken = clock(run)
        if kept is None:
            self.cache.crop(-1)  # drops the token that was timed
        else:
            self.cache = kept
        return taken


def _load_weights(model: Model, transformers: Any, torch: Any, kind: Any) -> Any:
    """transformers' model of the GGUF file's config, with kvsim's weights.

    UsageError: the model has no path. KvsimError: the arrays do not match.
    """
    from kvsim.loading.gguf.file import GGUF

    if model.path is None:
        raise UsageError("the peer transformers needs a model with a path or the name of a public model")
    facts = dict(GGUF(model.path).facts().fields)
    config = transformers.AutoConfig.for_model(**facts)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=kind)
    arrays = {key: torch.from_numpy(np.array(x)) for key, x in state_dict(model).items()}
    names = made.load_state_dict(arrays, strict=False)
    missing = [name for name in names.missing_keys if not name.endswith("lm_head.weight")]
    if missing or names.unexpected_keys:
        wrong = (missing or names.unexpected_keys)[0]
        raise KvsimError("the arrays of transformers' model and kvsim's do not match, for example {name}", name=wrong)
    made.tie_weights()
    return made


def save_random(facts: dict[str, Any], folder: Path) -> None:
    """Write a checkpoint of random weights that transformers makes from a config.json's facts.

    BackendError: transformers is not installed.
    """
    torch, transformers = import_transformers()
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**facts)).save_pretrained(folder)


def check_name(name: str) -> None:
    """UsageError: `name` is none of PEERS."""
    if name not in PEERS:
        raise UsageError("unknown peer {name}: use one of {known}", name=shortened(name), known=", ".join(PEERS))


def open_peer(name: str, model: Model) -> Any:
    """The peer `name` with the model's weights, after its logits for 32 tokens have been compared.

    UsageError: no such peer. KvsimError: a logit differs by more than 1e-5 · max|logit| in float64, 1e-4 in float32,
    5e-2 in 16-bit dtypes.
    """
    check_name(name)
    peer = TransformersPeer(model) if name == "transformers" else TorchPeer(model)
    ids = make_ids(model, min(32, model.config.max_context))
    mine, other = model.ops.backend.to_host(model(ids)).astype("f8"), peer.logits(ids)
    allowed = {"float64": 1e-5, "float32": 1e-4}.get(model.dtype, 5e-2) * float(np.abs(mine).max())
    apart = np.abs(mine - other).max(axis=1)
    if apart.max() > allowed:
        raise KvsimError(
            "logits of the peer {name} differ from position {place} on, by up to {apart}; allowed are {allowed}:"
            " nothing was timed",
            name=name,
            place=int(np.argmax(apart > allowed)),
            apart=f"{apart.max():.1e}",
            allowed=f"{allowed:.1e}",
        )
    return peer
