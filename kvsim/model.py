"""`Model`: config, weights, tokenizer, operations and caches in one handle; the object a user holds."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass, replace
from operator import index
from pathlib import Path
from typing import Any, Literal

from kvsim.arrays import Array, Backend, get_backend
from kvsim.caches import new_cache
from kvsim.caches.base import Cache
from kvsim.config import Config
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError, shortened
from kvsim.ops import Ops
from kvsim.text import Tokenizer
from kvsim.transformer.attention import Sequence as Rows
from kvsim.transformer.decoder import decode
from kvsim.watching import Seen
from kvsim.weights import Linear, Weights

Logits = Literal["all", "last"]


def move(ops: Ops, weights: Any) -> Any:
    """The same record with every host array on the device, once, in the model's dtype."""
    if is_dataclass(weights) and not isinstance(weights, type):
        return replace(weights, **{f.name: move(ops, getattr(weights, f.name)) for f in fields(weights)})
    if isinstance(weights, tuple):
        return tuple(move(ops, part) for part in weights)
    if weights is None:
        return None
    return ops.xp.asarray(weights, dtype=ops.dtype, device=ops.device)


class Model:
    """A model that runs. Weights are host arrays (`kvsim.weights`), moved to the backend here.

    `kvsim.load` makes one from a folder; `Model(config, weights)` from arrays that you have.
    """

    def __init__(
        self,
        config: Config,
        weights: Weights,
        *,
        tokenizer: Tokenizer | None = None,
        name: str = "model",
        path: Path | None = None,
        backend: str | Backend = "numpy",
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.name = name
        self.path = path
        self.ops = Ops(get_backend(backend, device), dtype)
        moved: Weights = move(self.ops, weights)
        # A tied head stays one array: two copies would also be two transfers.
        self.weights = replace(moved, head=Linear(moved.tokens)) if config.tied_head else moved

    @property
    def backend(self) -> str:
        return self.ops.backend.name

    @property
    def dtype(self) -> str:
        return self.ops.dtype_name

    def __repr__(self) -> str:
        return f"<kvsim.Model {self.name}: {self.config.family}, {self.dtype} on {self.backend}>"

    def new_cache(self, spec: str = "dynamic") -> Cache:
        """An empty cache for one sequence: "none", "dynamic", "static:4096"."""
        return new_cache(spec, self.config, self.ops)

    def count(self) -> AbstractContextManager[Ledger]:
        """`with model.count() as ledger:` every matrix product of the block. Ledgers nest."""
        return self.ops.count()

    def watch(self, *patterns: str) -> AbstractContextManager[Seen]:
        """`with model.watch("layers.*.probs") as seen:` the arrays at places whose names match.

        Places: embedding [T, D]; in each layer scores and probs [G, R, T, S], hidden [T, D]; final
        [T, D], what the head reads.
        """
        return self.ops.watch(*patterns)

    def __call__(self, ids: Iterable[int], cache: Cache | None = None, *, logits: Logits = "all") -> Array:
        """Logits of the new tokens `ids`, [T, V] (`logits="last"`: [1, V]), on the device.

        Ids are host integers. With a cache, they follow the tokens that it has seen.
        UsageError: no ids, an id outside the vocabulary, more tokens than the context or the cache holds.
        """
        return self.batch([(ids, cache)], logits=logits)[0]

    def batch(self, sequences: Sequence[tuple[Iterable[int], Cache | None]], *, logits: Logits = "all") -> list[Array]:
        """Logits of several sequences fed in one step, laid end to end: no padding, any lengths."""
        if logits not in ("all", "last"):
            raise UsageError("unknown logits {got}: use all or last", got=repr(logits))
        caches = [self._own(cache) for _, cache in sequences]
        if len({id(cache) for cache in caches}) < len(caches):
            raise UsageError("two sequences feed one cache: give each its own")
        rows: list[Rows] = []
        ids: list[int] = []
        for (new, _), cache in zip(sequences, caches, strict=True):
            start = len(ids)
            ids += self.check_ids(new)
            pos = cache.admit(len(ids) - start)
            if pos.stop > self.config.max_context:
                raise UsageError(
                    "the model {model} has a context of {context} tokens, asked for {asked}: use a shorter text",
                    model=self.name,
                    context=self.config.max_context,
                    asked=pos.stop,
                )
            rows.append(Rows(slice(start, len(ids)), pos, tuple(cache.layers)))
        if not rows:
            return []
        out = decode(self.ops, self.config, self.weights, self.ops.ids(ids), rows, logits == "last")
        for cache, row in zip(caches, rows, strict=True):
            cache.commit(row.pos)
        if logits == "last":
            return [out[n : n + 1, :] for n in range(len(rows))]
        return [out[row.rows, :] for row in rows]

    def _own(self, cache: Cache | None) -> Cache:
        """The cache itself, or a fresh one that keeps nothing; refused if made for another model."""
        if cache is None:
            return self.new_cache("none")
        if not isinstance(cache, Cache):
            raise UsageError("expected a cache made by new_cache, got {got}", got=shortened(cache))
        if cache.ops is not self.ops:
            raise UsageError(
                "this cache was made for another model than {model}: use this model's new_cache", model=self.name
            )
        return cache

    def check_ids(self, ids: Iterable[int]) -> list[int]:
        """Ids as Python ints, all inside the vocabulary: a device would wrap or clamp in silence."""
        if isinstance(ids, str):
            raise UsageError("expected token ids, got text: use model.tokenizer.encode(text)")
        if not isinstance(ids, Iterable):
            raise UsageError("expected token ids, got {got}", got=shortened(ids))
        try:
            checked = [index(i) for i in ids]
        except TypeError as error:
            raise UsageError("token ids are integers: {error}", error=error) from error
        if not checked:
            raise UsageError("no token ids: give at least one")
        for i in checked:
            if not 0 <= i < self.config.vocab_size:
                raise UsageError(
                    "token id {id} is outside the vocabulary of {model}: ids go from 0 to {last}",
                    id=i,
                    model=self.name,
                    last=self.config.vocab_size - 1,
                )
        return checked
