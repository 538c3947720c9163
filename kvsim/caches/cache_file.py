"""Caches in files: safetensors with the rows of every layer. The metadata name the model, dtype and policy.

A file is read only into a cache of the same model (config and weights), dtype and policy.
"""

import json
from pathlib import Path
from typing import Any

from kvsim.caches.base import State
from kvsim.caches.cache import Cache
from kvsim.errors import FileError, UsageError
from kvsim.files.writing import write_beside
from kvsim.schemas import dump

FORMAT = "kvsim.cache/1"  # of the file's metadata; no JSON document, so not in kvsim.schemas.VERSIONS


def to_bytes(cache: Cache, model: str) -> bytes:
    """The contents of the file. `model`: the model's fingerprint."""
    from safetensors.numpy import save

    host = cache.ops.backend.to_host
    arrays: dict[str, Any] = {}
    numbers: list[dict[str, int]] = []
    for i, layer in enumerate(cache.layers):
        state = layer.state()
        numbers.append(state.numbers)
        to_host = layer.home.backend.to_host
        arrays |= {f"layers.{i}.{name}": to_host(x).copy() for name, x in state.arrays.items()}
    for i, cross in enumerate(cache.cross):
        if cross.held is not None:
            arrays |= {f"cross.{i}.{name}": host(x).copy() for name, x in zip(("keys", "values"), cross.held)}  # noqa: B905
    facts = {
        "format": FORMAT, "model": model, "dtype": cache.ops.dtype_name, "spec": cache.spec,
        "ids": dump(cache.ids), "numbers": dump(numbers),
        "source": dump(cache.source if isinstance(cache.source, tuple) else None),
    }  # fmt: skip
    return save(arrays, facts)


def save_cache(cache: Cache, model: str, path: Path) -> None:
    """Writes `cache` to `path` atomically. UsageError: the policy keeps no rows, or the source was not given as ids."""
    if not cache.keeps:
        raise UsageError("the cache {spec} keeps nothing that could be saved", spec=cache.spec)
    if cache.source is not None and not isinstance(cache.source, tuple):
        raise UsageError("only a cache whose source was given as encoder_ids can be saved")
    with cache.ops.running():
        data = to_bytes(cache, model)
    write_beside(path, data)


def _refuse(path: Path, what: str, found: object, expected: object) -> FileError:
    return FileError(
        "{path} holds a cache of another {what}: {found}, expected {expected}",
        path=path,
        what=what,
        found=str(found)[:80],
        expected=expected,
    )


def _whole_numbers(text: str, most: int) -> list[dict[str, int]]:
    """The numbers of every layer from their JSON text. ValueError: anything but integers from 0 to `most`."""
    numbers: list[dict[str, int]] = json.loads(text)
    fine = isinstance(numbers, list) and all(
        isinstance(one, dict) and all(type(n) is int and 0 <= n <= most for n in one.values()) for one in numbers
    )
    if not fine:
        raise ValueError("numbers")
    return numbers


def _ids(ids: Any, vocabulary: int) -> list[int]:
    """`ids`, as parsed from JSON. ValueError: not a list of ids of the vocabulary."""
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < vocabulary for i in ids):
        raise ValueError("ids")
    return ids


def load_cache(cache: Cache, model: str, path: Path) -> None:
    """Fills the empty `cache` from a file. FileError: the file is missing, is not a cache, or belongs to another model,
    dtype or policy; `cache` is then left empty."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            if facts.get("format") != FORMAT:
                raise _refuse(path, "format", facts.get("format"), FORMAT)
            for what, expected in (("model", model), ("dtype", cache.ops.dtype_name), ("policy", cache.spec)):
                if facts.get("spec" if what == "policy" else what) != expected:
                    raise _refuse(path, what, facts.get("spec" if what == "policy" else what), expected)
            ids = _ids(json.loads(facts["ids"]), cache.config.vocab_size)
            cache.admit(len(ids))
            numbers = _whole_numbers(facts["numbers"], max(len(ids), 1))
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
            source = json.loads(facts["source"]) if cache.config.encoder is not None else None
            if source is not None and cache.config.encoder is not None:
                source = tuple(_ids(source, cache.config.encoder.vocab_size))
        _fill(cache, numbers, arrays)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        cache.clear()
        if isinstance(error, FileError | UsageError):
            raise
        raise FileError("cannot read {path} as a cache: {reason}", path=path, reason=error) from error
    cache.seen, cache.ids, cache.source = len(ids), ids, source


def _fill(cache: Cache, numbers: list[dict[str, int]], arrays: dict[str, Any]) -> None:
    """Restores every layer from its numbers and arrays. ValueError: arrays of other names, dtypes or shapes than the
    layer's state has after it was restored."""
    ops, xp = cache.ops, cache.ops.xp
    if len(numbers) != len(cache.layers):
        raise ValueError(f"{len(numbers)} layers")
    with ops.running():
        for i, layer in enumerate(cache.layers):
            own, home = layer.state(), layer.home
            given = {name: arrays.pop(f"layers.{i}.{name}") for name in own.arrays}
            for name, array in given.items():
                like = home.backend.to_host(own.arrays[name])
                if array.dtype != like.dtype or array.ndim != like.ndim:
                    raise ValueError(f"layers.{i}.{name} is {array.dtype} {list(array.shape)}")
            placed = {n: home.xp.asarray(a, dtype=own.arrays[n].dtype, device=home.device) for n, a in given.items()}
            layer.restore(State(numbers[i], placed))
            restored = layer.state()
            shapes = {name: tuple(array.shape) for name, array in given.items()}
            if restored.numbers != numbers[i] or {n: tuple(a.shape) for n, a in restored.arrays.items()} != shapes:
                raise ValueError(f"layers.{i}: {numbers[i]} and {shapes} do not go together")
        for i, cross in enumerate(cache.cross):
            pair = [arrays.pop(f"cross.{i}.{name}", None) for name in ("keys", "values")]
            if pair[0] is not None and pair[1] is not None:
                cross.hold(*(xp.asarray(a, dtype=ops.dtype, device=ops.device) for a in pair))
    if arrays:
        raise ValueError(f"unknown tensor {sorted(arrays)[0]}")
