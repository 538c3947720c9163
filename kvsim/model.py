"""`Model`: the object that users work with. It combines config, weights, tokenizer and operations, and makes caches."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kvsim.arrays import Array, Backend, get_backend
from kvsim.blueprint import build_weights
from kvsim.caches import new_cache, new_pool
from kvsim.caches.cache import Cache, change_caches, check_room
from kvsim.caches.cross import same_source
from kvsim.checks import check_array, check_ids, check_kind, check_list, check_pair, check_path, check_text, is_name
from kvsim.config import Config
from kvsim.counting.ledger import Ledger
from kvsim.counting.seen import Seen
from kvsim.errors import UsageError, Words, shortened
from kvsim.ops import Ops
from kvsim.spans import Span
from kvsim.text import Tokenizer
from kvsim.transformer.attention import ATTENTION, check_attention
from kvsim.transformer.attention import Sequence as Rows
from kvsim.transformer.decoder import decode
from kvsim.transformer.encoder import encode
from kvsim.transformer.places import check_patterns
from kvsim.weights import Weights, check_shapes, list_arrays, map_arrays

if TYPE_CHECKING:
    from kvsim.caches.paged.pool import Pool

Logits = Literal["all", "last"]


def make_ops(backend: Backend, dtype: str) -> Ops:
    """The operations on `backend`: in-place ones if its arrays are NumPy's own."""
    if not backend.in_place:
        return Ops(backend, dtype)
    from kvsim.fast.numpy_ops import FastOps

    return FastOps(backend, dtype)


class Source(NamedTuple):
    """The source of an encoder-decoder, read but not yet in a cache."""

    given: Any  # ids as a tuple, features, or the encoder's output: what the caller gave
    states: Array  # the encoder's output [S, D]


Part = tuple[Cache, Span, slice, Source | None]  # one sequence of a step; the slice: its tokens among the step's


class Model:
    """A model that runs. `kvsim.load` makes one from files, `Model(config, weights)` from host arrays
    (`kvsim.weights`), which are moved to the backend here. Caches that are pickled or deep-copied together with a
    model belong to the copy."""

    def __init__(
        self,
        config: Config,
        weights: Weights,
        *,
        tokenizer: Tokenizer | None = None,
        name: str = "model",
        path: Path | None = None,
        backend: str | Backend | None = None,
        device: str | None = None,
        dtype: str = "float32",
        attention: str = "square",
    ) -> None:
        check_kind("config", isinstance(config, Config), config, Words("a Config, as kvsim.load reads one"))
        check_kind(
            "tokenizer", tokenizer is None or hasattr(tokenizer, "piece"), tokenizer, Words("a tokenizer or None")
        )
        self.config = config
        self.tokenizer = tokenizer
        self.name = check_text("name", name)
        self.path = None if path is None else check_path("path", path)
        check_attention(attention)
        self.ops = make_ops(get_backend(backend, device), dtype)
        self.attention = attention if config.latent is None else "square"  # latent attention is not computed in blocks
        self.ops.query_block = ATTENTION[self.attention]
        check_shapes(build_weights(config, lambda name, shape: (name, shape)), weights)
        with self.ops.running():
            self.weights: Weights = map_arrays(weights, self.ops.to_device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.ops.copy_of = None  # from here on these are the operations of this copy and of the caches copied with it

    @property
    def backend(self) -> str:
        return self.ops.backend.name

    @property
    def dtype(self) -> str:
        return self.ops.dtype_name

    def __repr__(self) -> str:
        return f"<kvsim.Model {self.name}: {self.config.family}, {self.dtype} on {self.backend}>"

    def new_cache(self, spec: str = "dynamic") -> Cache:
        """An empty cache for one sequence, of the policy `spec`: "none", "dynamic", "static:4096" and so on."""
        return new_cache(spec, self.config, self.ops)

    def new_pool(self, spec: str = "paged:16", *, blocks: int | None = None) -> "Pool":
        """A pool of `blocks` blocks for the caches of many sequences: `pool.new_cache()`, `pool.reuse(cache, ids)`."""
        return new_pool(spec, self.config, self.ops, blocks)

    def fingerprint(self) -> str:
        """A digest of the config and of the first numbers of every array, which identifies the model."""
        from hashlib import sha256

        digest = sha256(repr(self.config).encode())
        with self.ops.running():
            for array in list_arrays(self.weights):
                first = array[0, :64] if array.ndim == 2 else array[:64]
                digest.update(self.ops.backend.to_host(first).tobytes())
        return digest.hexdigest()

    def save_cache(self, cache: Cache, path: str | Path) -> None:
        """Write a cache of this model to a safetensors file, atomically. UsageError: a cache of another model, or one
        that keeps nothing. FileError: it cannot be written."""
        from kvsim.caches.cache_file import save_cache

        save_cache(self._own(cache), self.fingerprint(), check_path("path", path))

    def load_cache(self, path: str | Path, spec: str = "dynamic") -> Cache:
        """The cache of the policy `spec` that `save_cache` wrote, ready for the next token. FileError: no such file, no
        cache, or a cache of another model, dtype or policy."""
        from kvsim.caches.cache_file import load_cache

        cache, file = self.new_cache(spec), check_path("path", path)
        load_cache(cache, self.fingerprint(), file)
        return cache

    def count(self) -> AbstractContextManager[Ledger]:
        """`with model.count() as ledger:` records every matrix product that this thread runs in the block. Ledgers
        nest. Reading one warns (OtherThreadsWarning) of products that other threads ran meanwhile without a ledger."""
        return self.ops.count(warns=True)

    def watch(self, *patterns: str) -> AbstractContextManager[Seen]:
        """`with model.watch("layers.*.probs") as seen:` keeps the arrays of this thread at places whose names match.

        Places: embedding [T, D]; in each layer what attention multiplies and makes, positions encoded: query
        [G, R, T, K], key and value [G, S, K], scores (scaled), capped, masked and probs [G, R, T, S], context
        [G, R, T, K]; the same of cross-attention (cross_query and so on); hidden [T, D]; final [T, D], the input of
        the head; those of an encoder begin with "encoder.". Absorbed latent attention has one key of latent and rotary
        part for all heads, and the latent as its value. Watching changes what runs in one case, which the ledger
        shows: `attention="blocked"` computes full squares in layers where a place inside self-attention is watched.
        UsageError: a pattern that no place of this model matches.
        """
        check_patterns(self.config, self.name, patterns)
        return self.ops.watch(*patterns)

    def __call__(
        self,
        ids: Iterable[int],
        cache: Cache | None = None,
        *,
        logits: Logits = "all",
        encoder_ids: Iterable[int] | None = None,
        encoder_features: Array | None = None,
        encoder_states: Array | None = None,
    ) -> Array:
        """Logits of the new tokens `ids`, [T, V] (`logits="last"`: [1, V]), on the device.

        Ids are host integers; with a cache, they continue the tokens that it has seen. The source of an
        encoder-decoder is given as ids, as features [mels, frames], or as the output [S, D] of `encode`. A cache
        stores the keys and values of the source at the first call; the same source again is ignored.

        UsageError: no ids, an id outside the vocabulary, more tokens than the positions or the cache can hold, a source
        that is missing, differs from the first one, or is given to a model without an encoder.
        """
        held = self._own(cache)
        states = self._source(held, encoder_ids, encoder_features, encoder_states)
        return self._run([(ids, held, states)], logits)[0]

    def batch(self, sequences: Sequence[tuple[Iterable[int], Cache | None]], *, logits: Logits = "all") -> list[Array]:
        """Logits of several sequences fed in one step, concatenated without padding, of any lengths. Sequences of an
        encoder-decoder need caches that have read their source."""
        held = [(ids, self._own(cache)) for ids, cache in map(check_pair, check_list("sequences", sequences))]
        return self._run([(ids, cache, self._source(cache, None, None, None)) for ids, cache in held], logits)

    def encode(self, ids: Iterable[int] | None = None, *, features: Array | None = None) -> Array:
        """The encoder's output [S, D] for a source of ids, or of features [mels, frames]."""
        config, weights = self.config.encoder, self.weights.encoder
        if config is None or weights is None:
            raise UsageError("the model {model} has no encoder", model=self.name)
        if (features is None) != (config.audio is None):
            wanted = "encoder_ids" if config.audio is None else "encoder_features"
            raise UsageError("the encoder of {model} reads {wanted}", model=self.name, wanted=wanted)
        if config.audio is None:
            source = self.ops.ids(self.check_ids(() if ids is None else ids))
            rows = source.shape[0]
        else:
            source = self.ops.to_device(check_array("features", features))
            if source.ndim != 2 or source.shape[0] != config.audio.n_mels:
                raise UsageError(
                    "expected features of shape [{mels}, frames], got {shape}",
                    mels=config.audio.n_mels,
                    shape=list(source.shape),
                )
            rows = (source.shape[1] + 1) // 2
        if config.learned_positions and rows > config.max_context:
            self._refuse_length(config.max_context, rows)
        with self.ops.running():
            layers = tuple(new_cache("none", config, self.ops).layers)
            return encode(self.ops, config, weights, source, layers)

    def _source(self, cache: Cache, ids: Any, features: Any, states: Any) -> Source | None:
        """The source, read by the encoder; None if the cache already holds its keys and values. Changes nothing."""
        given = [x for x in (ids, features, states) if x is not None]
        if self.config.encoder is None:
            if given:
                raise UsageError("the model {model} has no encoder", model=self.name)
            return None
        if len(given) > 1:
            raise UsageError("give the source once: encoder_ids, encoder_features or encoder_states")
        name = "encoder_features" if states is None else "encoder_states"
        source = tuple(self.check_ids(ids)) if ids is not None else check_array(name, given[0]) if given else None
        if cache.source is not None:
            with self.ops.running():
                if source is not None and not same_source(self.ops, source, cache.source):
                    raise UsageError("this cache has read another source: use a new one")
            return None
        if source is None:
            raise UsageError("the model {model} reads a source: give encoder_ids", model=self.name)
        if states is not None and (len(states.shape) != 2 or states.shape[1] != self.config.d_model):
            raise UsageError(
                "expected encoder_states of shape [S, {width}], got {shape}",
                width=self.config.d_model,
                shape=list(states.shape),
            )
        if states is None:
            return Source(source, self.encode(None if ids is None else source, features=features))
        with self.ops.running():
            return Source(source, self.ops.to_device(states))

    def _run(self, sequences: list[tuple[Iterable[int], Cache, Source | None]], logits: Logits) -> list[Array]:
        """One step of all sequences: every cache takes it, or none if an exception ends it."""
        if not is_name(logits, ("all", "last")):
            raise UsageError("unknown logits {got}: use all or last", got=shortened(logits))
        if len({id(cache) for _, cache, _ in sequences}) < len(sequences):
            raise UsageError("two sequences feed one cache: give each its own")
        ids: list[int] = []
        steps: list[Part] = []
        for new, cache, source in sequences:
            start = len(ids)
            ids += self.check_ids(new)
            pos = cache.admit(len(ids) - start)
            if self.config.learned_positions and pos.stop > self.config.max_context:
                self._refuse_length(self.config.max_context, pos.stop)
            steps.append((cache, pos, slice(start, len(ids)), source))
        if not steps:
            return []
        check_room([(cache, pos) for cache, pos, _, _ in steps])
        return change_caches([cache for _, cache, _ in sequences], lambda: self._step(steps, ids, logits == "last"))

    def _step(self, steps: list[Part], ids: list[int], last_only: bool) -> list[Array]:
        """The logits of a step that fits. Caches are committed after the last layer."""
        with self.ops.running():
            rows = [
                Rows(rows, pos, tuple(cache.layers), tuple(cache.cross), None if source is None else source.states)
                for cache, pos, rows, source in steps
            ]
            out = decode(self.ops, self.config, self.weights, self.ops.ids(ids), rows, last_only)
            for cache, pos, where, source in steps:
                if source is not None and cache.keeps:
                    cache.source = source.given
                cache.commit(pos, ids[where])
            return [out[slice(n, n + 1) if last_only else part[2], :] for n, part in enumerate(steps)]

    def _refuse_length(self, context: int, asked: int) -> None:
        raise UsageError(
            "the model {model} has a context of {context} tokens, asked for {asked}: use a shorter text",
            model=self.name,
            context=context,
            asked=asked,
        )

    def _own(self, cache: Cache | None) -> Cache:
        """The cache itself, or a new one that keeps nothing for None. UsageError: a cache of another model."""
        if cache is None:
            return self.new_cache("none")
        if not isinstance(cache, Cache):
            raise UsageError("expected a cache made by new_cache, got {got}", got=shortened(cache))
        if self.ops not in (cache.ops, cache.ops.copy_of):
            raise UsageError(
                "this cache was made for another model than {model}: use this model's new_cache", model=self.name
            )
        cache.repair()
        return cache

    def check_ids(self, ids: Iterable[int]) -> list[int]:
        """Ids as Python ints, all inside the vocabulary. UsageError: no ids, or an id outside."""
        return check_ids(ids, self.config.vocab_size, self.name)
