"""The right answer: kvsim's own model in float64, and how far its own runs in other dtypes are from that."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kvsim.config import Config
from kvsim.errors import UsageError, shortened
from kvsim.model import Model
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.independent.decoder import Decoder, covers
from kvsim.testing.independent.rounding import FORMATS, format_name, rounding
from kvsim.testing.subject.calls import UnreadableError, to_host
from kvsim.testing.subject.weights import ModelWeights
from kvsim.testing.verdict.diagnosing import Chunks
from kvsim.weights import Weights, map_arrays

FLOOR = 8  # eps of the largest number: what is allowed where the reference's own error happens to be small


class Allowed(NamedTuple):
    """Twice the reference's own error in a dtype, plus a floor."""

    dtype: str
    own: float
    floor: float
    given: float | None = None  # the caller's own

    @property
    def value(self) -> float:
        return 2 * self.own + self.floor if self.given is None else self.given


def allow(dtype: str, own: float, largest: float, given: float | None = None) -> Allowed:
    return Allowed(dtype, own, FLOOR * FORMATS[dtype].eps * largest, given)


def refuse_all(allowed: Allowed, largest: float) -> None:
    """UsageError: the bound is as large as the numbers themselves, so that a check could not fail."""
    if allowed.given is None and allowed.value >= largest:
        raise UsageError(
            "rounding to {dtype} may change right results by {allowed}, and the largest of them is {largest}: nothing"
            " can be told; give allowed=, or check in another format", dtype=allowed.dtype,
            allowed=f"{allowed.value:.2g}", largest=f"{largest:.2g}",
        )  # fmt: skip


def coarser(one: str, other: str) -> str:
    """Of two formats the one with fewer bits."""
    return min(one, other, key=lambda name: FORMATS[name].bits)


class Reference:
    """A model to compare with, from weights under Hugging Face's names or from a kvsim model, with a cache's policy.

    UsageError: neither of the two, or a model with an encoder.
    """

    def __init__(self, given: Any, policy: str = "dynamic") -> None:
        self.policy = policy
        self.given: ModelWeights | None = None
        self.kept: dict[str, Any] = {}
        self.dtype = "float64"  # of the weights
        if isinstance(given, ModelWeights):
            self.config: Config = given.config.to_config()
            self.weights: Weights = given.to_weights()
            self.given = given
            self.kept = {name: to_host(x)[0] for name, x in given.items()}
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
        self._own = object()  # stands for the weights of a loaded model
        self.covered = covers(self.config, policy)

    def altered(self) -> str | None:
        """The first of the weights given that is not what it was."""
        given: dict[str, Any] = self.given or {}
        for name, kept in self.kept.items():
            try:
                now = to_host(given[name])[0]
            except (KeyError, UnreadableError):
                return name
            if not np.array_equal(now, kept):
                return name
        return None

    def model(self, dtype: str = "float64") -> Model:
        """kvsim's own, on NumPy."""
        if dtype not in self._models:
            self._models[dtype] = Model(self.config, self.weights, dtype=dtype, backend="numpy")
        return self._models[dtype]

    def run(self, text: Chunks, dtype: str = "float64") -> Any:
        """Logits [T, V] of a text fed in chunks, in float64; read-only, since what was run before is known."""
        return self._known(Model, dtype, text, lambda: self._run(text, dtype))

    def _run(self, text: Chunks, dtype: str) -> Any:
        model = self.model(dtype)
        cache = model.new_cache(self.policy)
        with np.errstate(all="ignore"):
            return np.concatenate([np.asarray(model(chunk, cache), np.float64) for chunk in text])

    def emulate(self, text: Chunks, dtype: str) -> Any:
        """The independent decoder with every step's result kept in `dtype`."""
        keep = rounding(dtype)
        decoder = Decoder(self.config, map_arrays(self.weights, keep), self.policy, keep)
        with np.errstate(all="ignore"):
            return np.concatenate([decoder.forward(chunk) for chunk in text])

    def _known(self, kind: type[Any], dtype: str, text: Chunks, run: Callable[[], Any]) -> Any:
        """What `run` returns, unless it was run before in this process. A loaded model may be too large for a digest
        of its weights before every run: what it gave is known to this record alone."""
        weights = self._own if self.given is None else fingerprint(self.weights)
        key = (kind, dtype, repr(self.config), weights, self.policy, tuple(map(tuple, text)))
        return KNOWN.get(key, lambda: [run()])[0]

    def own_error(self, texts: list[Chunks], dtype: str) -> float:
        """How far the reference's own runs in `dtype` are from it, at most: kvsim's where it computes in that, and the
        independent decoder's where it covers the model. In float64 right answers are compared: cut and whole."""
        name, worst = format_name(dtype), 0.0
        for text in texts:
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
        """Does any cut of a text give the same logits?"""
        return self.policy.partition(":")[0] not in ("int8", "int4", "fp8", "h2o", "snapkv", "knorm")
