"""Caches in files: safetensors with the rows of every layer. The metadata name the model, dtype and policy.

A file is read only into a cache of the same model (config and weights), dtype and policy, and only if ids, rows,
positions and scales go together. Shapes are compared before anything is read, numbers before anything is handed out.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kvsim.caches.base import LayerCache, State
from kvsim.caches.cache import Cache
from kvsim.errors import FileError, UsageError, Words, plain, reason_of
from kvsim.files.reading import OpenFile, open_file
from kvsim.files.safetensors_arrays import Layout, Tensor, read_array, write_arrays
from kvsim.files.safetensors_header import Entry, read_header
from kvsim.files.writing import write_with
from kvsim.ops import Ops
from kvsim.schemas import dump

FORMAT = "kvsim.cache/1"  # of the file's metadata; no JSON document, so not in kvsim.schemas.VERSIONS
_NUMBERS = 200  # characters, more than the numbers of a layer take


def _host_dtype(ops: Ops, array: Any) -> str:
    """NumPy's name of the dtype that an array [G, S, ...] has on the host (bfloat16 as float32)."""
    return str(ops.backend.to_host(array[:, :0]).dtype.name)


def _lay_out(layer: LayerCache, seen: int, numbers: dict[str, int]) -> dict[str, Layout]:
    """The layouts of the arrays of a layer after `seen` tokens. ValueError: `numbers` that no such layer has."""
    like = layer.state().arrays
    expected = layer.expect(seen, numbers)
    return {name: Layout(_host_dtype(layer.home, like[name]), shape) for name, shape in expected.items()}


def _lay_out_cross(cache: Cache, rows: int) -> dict[str, Layout]:
    """The layouts of the arrays of all cross layers for a source of that many rows."""
    found = {}
    for i, cross in enumerate(cache.cross):
        (g, k, v), dtype = cross.shape, _host_dtype(cross.ops, cross.keys)
        found[f"cross.{i}.keys"], found[f"cross.{i}.values"] = Layout(dtype, (g, rows, k)), Layout(dtype, (g, rows, v))
    return found


# Writing


class _States:
    """The states of layers, of which the one used last is kept: some policies copy their rows to make one."""

    def __init__(self, layers: Sequence[LayerCache]) -> None:
        self.layers, self.last = layers, -1
        self.arrays: dict[str, Any] = {}

    def read(self, number: int, name: str) -> Any:
        """One array of a layer, on the host."""
        if number != self.last:
            self.arrays = {}  # before the next are made
            self.last, self.arrays = number, self.layers[number].state().arrays
        return self.layers[number].home.backend.to_host(self.arrays[name])


def _list_tensors(cache: Cache, numbers: list[dict[str, int]]) -> Iterator[Tensor]:
    """All arrays of the cache, to be copied to the host one by one. ValueError: a layer does not hold what a cache of
    this policy holds after `cache.seen` tokens, as after an interrupted step."""
    if len(cache.ids) != cache.seen:  # a run on the meta backend has none
        raise ValueError(Words("{ids} ids of {seen} tokens", ids=len(cache.ids), seen=cache.seen))
    states = _States(cache.layers)
    for i, layer in enumerate(cache.layers):
        for name, layout in _lay_out(layer, cache.seen, numbers[i]).items():
            yield Tensor(f"layers.{i}.{name}", layout, partial(states.read, i, name))
    if not isinstance(cache.source, tuple):
        return
    layouts = _lay_out_cross(cache, len(cache.source))
    for i, cross in enumerate(cache.cross):
        for name, array in ((f"cross.{i}.keys", cross.keys), (f"cross.{i}.values", cross.values)):
            yield Tensor(name, layouts[name], partial(cross.ops.backend.to_host, array))


def save_cache(cache: Cache, model: str, path: Path) -> None:
    """Writes `cache` to `path` atomically, one array after another. `model`: the model's fingerprint.

    UsageError: the policy keeps no rows, the source was not given as ids, a step was interrupted so that the cache
    cannot go on, or a number is not finite. FileError: the file cannot be written.
    """
    if not cache.keeps:
        raise UsageError("the cache {spec} keeps nothing that could be saved", spec=cache.spec)
    if cache.source is not None and not isinstance(cache.source, tuple):
        raise UsageError("only a cache whose source was given as encoder_ids can be saved")
    try:
        with cache.ops.backend.running():
            numbers = [layer.state().numbers for layer in cache.layers]
            tensors = list(_list_tensors(cache, numbers))
            facts = {
                "format": FORMAT, "model": model, "dtype": cache.ops.dtype_name, "spec": cache.spec,
                "ids": dump(cache.ids), "numbers": dump(numbers), "source": dump(cache.source),
            }  # fmt: skip
            write_with(path, lambda file: write_arrays(file, tensors, facts))
    except ValueError as error:
        if isinstance(error, FileError | UsageError):
            raise
        raise UsageError(
            "the cache {spec} cannot be saved: {reason}", spec=cache.spec, reason=reason_of(error)
        ) from error


# Reading


def _check_owner(cache: Cache, model: str, path: Path, facts: dict[str, str]) -> None:
    """FileError: not a cache file, or one of another model, dtype or policy."""
    owner = (("format", FORMAT), ("model", model), ("dtype", cache.ops.dtype_name), ("spec", cache.spec))
    for name, expected in owner:
        if facts.get(name) != expected:
            raise FileError(
                "{path} holds a cache of another {what}: {found}, expected {expected}",
                path=path,
                what="policy" if name == "spec" else name,
                found=plain(str(facts.get(name))),
                expected=expected,
            )


def _parse(text: str, otherwise: Words) -> Any:
    """The value that a JSON text has. ValueError: it has none, a number of thousands of digits, or too deep nesting."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(otherwise) from error


def _read_ids(text: str, vocabulary: int) -> list[int]:
    """A JSON list of ids. ValueError: anything else, or an id outside the vocabulary."""
    if not re.fullmatch(r"\[[0-9, ]*\]", text):  # nothing is nested, however long it is
        raise ValueError(Words("ids are not a list of whole numbers"))
    ids: list[int] = _parse(text, Words("ids are not a list of whole numbers"))
    if ids and max(ids) >= vocabulary:
        raise ValueError(Words("an id is outside the vocabulary of {count}", count=vocabulary))
    return ids


def _read_numbers(text: str, n_layers: int) -> list[dict[str, int]]:
    """The numbers of every layer. ValueError: anything but integers, of that many layers."""
    numbers: Any = _parse(text, Words("numbers are not whole")) if len(text) <= _NUMBERS * n_layers else None
    if not isinstance(numbers, list) or len(numbers) != n_layers:
        raise ValueError(Words("numbers are not those of {count} layers", count=n_layers))
    if not all(isinstance(one, dict) and all(type(n) is int for n in one.values()) for one in numbers):
        raise ValueError(Words("numbers are not whole"))
    return numbers


def _read_source(cache: Cache, text: str, seen: int) -> tuple[int, ...] | None:
    """The ids of the source; None: not read yet. ValueError: not a source of this model."""
    config = cache.config.encoder
    if text == "null":
        if config is not None and seen:
            raise ValueError(Words("there is no source"))
        return None
    if config is None or config.audio is not None:
        raise ValueError(Words("this model reads no source of ids"))
    return tuple(_read_ids(text, config.vocab_size))


def _check_length(cache: Cache, seen: int) -> None:
    """ValueError: more tokens than the model or the cache can hold."""
    limits = (cache.capacity, cache.config.max_context if cache.config.learned_positions else None)
    if any(limit is not None and seen > limit for limit in limits):
        raise ValueError(Words("{count} ids are more than fit", count=seen))


def _check_tensors(found: dict[str, Entry], layouts: dict[str, Layout]) -> None:
    """ValueError: other arrays than those expected, or arrays of other dtypes or shapes."""
    for name in sorted(found.keys() ^ layouts.keys()):
        if name in found:
            raise ValueError(Words("unknown tensor {name}", name=plain(name)))
        raise ValueError(Words("there is no tensor {name}", name=name))
    for name, layout in layouts.items():
        layout.check(name, found[name])


def _place(ops: Ops, array: Any, dtype: Any) -> Any:
    """A host array on the layer's device. ValueError: a number that the dtype does not have."""
    placed = ops.xp.asarray(array, dtype=dtype, device=ops.device)
    if ops.dtype_name == "bfloat16" and not (ops.backend.to_host(placed) == array).all():
        raise ValueError(Words("there are numbers that are no bfloat16"))
    return placed


def _fill_layer(layer: LayerCache, numbers: dict[str, int], names: dict[str, str], read: Callable[[str], Any]) -> None:
    """Restores a layer. `names`: of its arrays, each with the name by which `read` returns it. ValueError: they do not
    go together."""
    arrays = {name: read(label) for name, label in names.items()}
    layer.check_arrays(State(numbers, arrays))
    like = layer.state().arrays
    placed = {name: _place(layer.home, array, like[name].dtype) for name, array in arrays.items()}
    layer.restore(State(numbers, placed))


def _fill(cache: Cache, model: str, file: OpenFile) -> None:
    """Fills an empty cache. ValueError, FileError: the file does not hold one."""
    entries, facts = read_header(file)
    _check_owner(cache, model, file.path, facts)
    for name in ("ids", "numbers", "source"):
        if name not in facts:
            raise ValueError(Words("its metadata lack {name}", name=name))
    ids = _read_ids(facts["ids"], cache.config.vocab_size)
    _check_length(cache, len(ids))
    numbers = _read_numbers(facts["numbers"], len(cache.layers))
    source = _read_source(cache, facts["source"], len(ids))
    layers = [_lay_out(layer, len(ids), own) for layer, own in zip(cache.layers, numbers, strict=True)]
    layouts = {f"layers.{i}.{name}": layout for i, layer in enumerate(layers) for name, layout in layer.items()}
    layouts |= {} if source is None else _lay_out_cross(cache, len(source))
    _check_tensors(entries, layouts)

    def read(name: str) -> Any:
        return read_array(file, name, entries[name], layouts[name])

    for i, layer in enumerate(cache.layers):
        _fill_layer(layer, numbers[i], {name: f"layers.{i}.{name}" for name in layers[i]}, read)
    for i, cross in enumerate(cache.cross if source is not None else ()):
        pair = (read(f"cross.{i}.keys"), read(f"cross.{i}.values"))
        cross.hold(*(_place(cross.ops, x, cross.ops.dtype) for x in pair))
    cache.seen, cache.ids, cache.source = len(ids), ids, source


def load_cache(cache: Cache, model: str, path: Path) -> None:
    """Fills the empty `cache` from a file. FileError: the file is missing, changes meanwhile, is not a cache, belongs
    to another model, dtype or policy, or contradicts itself; `cache` is then left empty."""
    try:
        with open_file(path) as file, cache.ops.backend.running():
            _fill(cache, model, file)
    except ValueError as error:
        cache.clear()
        if isinstance(error, FileError | UsageError):
            raise
        raise FileError("cannot read {path} as a cache: {reason}", path=path, reason=reason_of(error)) from error
    except BaseException:
        cache.clear()
        raise
