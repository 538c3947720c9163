"""The expected logits, from kvsim's own model in float64, and the difference that rounding in a dtype explains."""

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from kvsim.checks import check_number, check_text
from kvsim.config import Config
from kvsim.errors import UsageError, shortened
from kvsim.model import Model
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.feeds.progress import track
from kvsim.testing.independent.decoder import Decoder, covers
from kvsim.testing.independent.rounding import FORMATS, Rounding, format_name, rounding
from kvsim.testing.subject.calls import Chunks, UnreadableError, to_host
from kvsim.testing.subject.weights import ModelWeights
from kvsim.weights import Weights, map_arrays

FLOOR = 8  # times eps times the largest number: always allowed, as the reference's own error may be small by chance


class Allowed(NamedTuple):
    """The allowed difference: twice the reference's own error in a dtype, plus a floor."""

    dtype: str
    own: float
    floor: float
    given: float | None = None  # by the caller, who overrides both

    @property
    def value(self) -> float:
        """The largest difference that passes."""
        return 2 * self.own + self.floor if self.given is None else self.given


def allow(dtype: str, own: float, largest: float, given: float | None = None) -> Allowed:
    """The allowed difference for numbers up to `largest`, where the reference's own error in `dtype` is `own`."""
    return Allowed(dtype, own, FLOOR * FORMATS[dtype].eps * largest, given)


def check_allowed(given: Any) -> float | None:
    """The largest difference that passes, as the caller gives it, if at all. UsageError: no number of at least 0;
    NaN."""
    value = None if given is None else check_number("allowed", given)
    if value is not None and not value >= 0:
        raise UsageError("{name} must be at least {least}, got {got}", name="allowed", least=0, got=shortened(given))
    return value


def refuse_vacuous(allowed: Allowed, largest: float) -> None:
    """UsageError: the allowed difference is at least as large as the largest number, so that no check could fail."""
    if allowed.given is None and allowed.value >= largest:
        raise UsageError(
            "rounding to {dtype} may change right results by {allowed}, and the largest of them is {largest}: the check"
            " could not fail; give allowed=, or check in another format", dtype=allowed.dtype,
            allowed=f"{allowed.value:.2g}", largest=f"{largest:.2g}",
        )  # fmt: skip


def coarser(one: str, other: str) -> str:
    """The one of two formats that has fewer bits."""
    return min(one, other, key=lambda name: FORMATS[name].bits)


def _round(x: Any, keep: Rounding) -> Any:
    """x rounded; x itself if that changes nothing."""
    rounded = keep(x)
    return x if np.array_equal(x, rounded) else rounded


class Reference:
    """The model to compare with, under a cache policy: `given` is a ModelWeights or a kvsim model.

    `covered`: whether the independent decoder implements it. UsageError: `given` is neither, or has an encoder.
    """

    def __init__(self, given: Any, policy: str = "dynamic") -> None:
        self.policy = check_text("policy", policy)
        self.given: ModelWeights | None = None
        self.copies: dict[str, Any] = {}  # of the given weights, to find out whether the code under test changes them
        self.dtype = "float64"  # of the given weights
        if isinstance(given, ModelWeights):
            self.config: Config = given.config.to_config()
            self.weights: Weights = given.to_weights()
            self.given = given
            self.copies = {name: to_host(x)[0] for name, x in given.items()}
            self.dtype = given.dtype
        elif isinstance(given, Model):
            fetch = given.ops.backend.to_host
            self.config = given.config
            self.weights = map_arrays(given.weights, lambda x: np.asarray(fetch(x), np.float64))
            self.dtype = given.dtype if given.dtype in FORMATS else "float64"
        else:
            raise UsageError(
                "reference is weights made by kvsim.testing.weights, or a model of kvsim.load, not {got}",
                got=shortened(given),
            )
        if self.config.encoder is not None:
            raise UsageError("the oracle compares decoders: the reference has an encoder")
        self._models: dict[str, Model] = {}
        self._rounded: dict[str, Weights] = {}  # the weights in the format that was asked for last
        self.covered = covers(self.config, policy)

    def changed_weight(self) -> str | None:
        """The name of the first of the given weights that has been changed since; None if there is none."""
        given: dict[str, Any] = self.given or {}
        for name, copy in self.copies.items():
            try:
                now = to_host(given[name])[0]
            except (KeyError, UnreadableError):
                return name
            if not np.array_equal(now, copy):
                return name
        return None

    def model(self, dtype: str = "float64") -> Model:
        """kvsim's own model in `dtype`, on NumPy."""
        if dtype not in self._models:
            self._models[dtype] = Model(self.config, self.weights, dtype=dtype, backend="numpy")
        return self._models[dtype]

    def run(self, text: Chunks, dtype: str = "float64") -> Any:
        """Logits [T, V] of a text fed in chunks, computed in `dtype`, returned in float64: read-only, because the same
        array is returned again for the same text."""
        return self._known(Model, dtype, text, lambda: self._run(text, dtype))

    def _run(self, text: Chunks, dtype: str) -> Any:
        model = self.model(dtype)
        cache = model.new_cache(self.policy)
        with np.errstate(all="ignore"):
            return np.concatenate([np.asarray(model(chunk, cache), np.float64) for chunk in text])

    def emulate(self, text: Chunks, dtype: str) -> Any:
        """Logits [T, V] of the independent decoder, with the result of every step rounded to `dtype`."""
        keep = rounding(dtype)
        if dtype not in self._rounded:
            self._rounded = {dtype: map_arrays(self.weights, lambda x: _round(x, keep))}
        decoder = Decoder(self.config, self._rounded[dtype], self.policy, keep)
        with np.errstate(all="ignore"):
            return np.concatenate([decoder.forward(chunk) for chunk in text])

    def _known(self, kind: type[Any], dtype: str, text: Chunks, run: Callable[[], Any]) -> Any:
        """The result of `run`, memoised for this process by the digest of the weights. The weights of a loaded model
        may be too large to digest before every run: its results are memoised for this object only."""
        key = (kind, dtype, *self.model_key, self.policy, tuple(map(tuple, text)))
        return KNOWN.get(key, lambda: [run()])[0]

    @cached_property
    def model_key(self) -> tuple[str, object]:
        """The part of a key of KNOWN that tells models apart."""
        return repr(self.config), object() if self.given is None else fingerprint(self.weights)

    def own_error(self, texts: list[Chunks], dtype: str) -> float:
        """The largest difference of the reference's own runs in `dtype` from its logits in float64.

        The runs are kvsim's own where it computes in `dtype`, and the independent decoder's where it covers the model.
        For float64, kvsim's run of the whole text at once is compared with that of the chunks.
        """
        name, worst = format_name(dtype), 0.0
        for text in track(texts, "rounding"):
            right = self.run(text)
            runs = []
            if name != "float64" and name in self.model().ops.backend.dtypes:
                runs.append(self.run(text, name))
            elif name == "float64" and self.lossless:
                runs.append(self.run([[i for chunk in text for i in chunk]]))
            if self.covered:
                runs.append(self._known(Decoder, name, text, partial(self.emulate, text, name)))
            errors = [float(np.abs(run - right).max()) for run in runs]
            worst = max([worst, *(e for e in errors if math.isfinite(e))])
        return worst

    @property
    def lossless(self) -> bool:
        """Whether the logits are the same however a text is cut."""
        return self.policy.partition(":")[0] not in ("int8", "int4", "fp8", "h2o", "snapkv", "knorm")
