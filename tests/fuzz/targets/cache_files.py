"""Files of caches: `Model.load_cache` of a file with changed metadata, header, numbers or bytes. Given: a policy and a
path. What is accepted must go on to finite logits."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from kvsim.model import Model
from tests.caches.saved import SPECS, WINDOWED
from tests.fuzz.mutations import draw_value, mutate_bytes, mutate_json
from tests.models import GPT2_LIKE, PRIMES, make_model

CONFIGS = (PRIMES, WINDOWED, GPT2_LIKE)
HERE = [spec for spec in SPECS if not spec.startswith("fp8") or find_spec("ml_dtypes")]
KINDS = [(i, spec) for i in range(len(CONFIGS)) for spec in HERE if i < 2 or not spec.startswith("sinks")]
Given = tuple[Model, str, Path]


@cache
def whole(number: int, spec: str) -> bytes:
    """The file of a cache that has seen 20 tokens."""
    from tempfile import TemporaryDirectory

    model = make_model(CONFIGS[number])
    held = model.new_cache(spec)
    model(list(range(40, 60)), held)
    with TemporaryDirectory() as folder:
        model.save_cache(held, Path(folder, "whole"))
        return Path(folder, "whole").read_bytes()


def split(raw: bytes) -> tuple[Any, bytearray]:
    """The header, with its metadata parsed, and the arrays."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    facts = header["__metadata__"]
    header["__metadata__"] = {k: json.loads(v) if k in ("ids", "numbers", "source") else v for k, v in facts.items()}
    return header, bytearray(raw[8 + size :])


def join(header: Any, data: bytes) -> bytes:
    """The file of that header: what was parsed in its metadata is text again."""
    if isinstance(header, dict) and isinstance(facts := header.get("__metadata__"), dict):
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
        header = {**header, "__metadata__": texts}
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + data


def change_numbers(random: Random, header: Any, data: bytearray) -> None:
    """Some bytes of one array."""
    name = random.choice([name for name in header if name != "__metadata__"])
    start, stop = header[name]["data_offsets"]
    if start < stop:
        at = random.randrange(start, stop)
        value = random.choice((bytes([random.randrange(256)]), random.randbytes(8), b"\xff" * 8, b"\0" * 8))
        data[at : min(at + len(value), stop)] = value[: stop - at]


def shift(random: Random, facts: Any) -> None:
    """Counts that fit each other, but not the arrays."""
    if random.random() < 0.5:
        count = random.choice((0, 1, 19, 21, 64, 65, 10**4, 10**6))
        facts["ids"] = [1] * count
        for one in facts["numbers"]:
            one.update(dict.fromkeys(one.keys() & {"rows", "stop"}, count))
    else:
        one = random.choice(facts["numbers"])
        one[random.choice(list(one))] = random.choice((draw_value(random), 0, 20, 6, -1, 2**63))


def valid(folder: Path) -> Given:
    """A file as it was saved."""
    for kind in KINDS:
        whole(*kind)  # of all, before memory is limited
    path = folder / "cache"
    path.write_bytes(whole(0, "dynamic"))
    return make_model(PRIMES), "dynamic", path


def make(random: Random, folder: Path) -> Given:
    """One of the files, changed."""
    number, spec = random.choice(KINDS)
    raw, kind, path = whole(number, spec), random.randrange(6), folder / "cache"
    header, data = split(raw)
    if kind == 0:
        raw = mutate_bytes(random, raw)
    elif kind == 1:
        raw = join(mutate_json(random, header), data)
    elif kind == 2:
        header["__metadata__"] = mutate_json(random, header["__metadata__"])
        raw = join(header, data)
    elif kind == 3:
        change_numbers(random, header, data)
        raw = join(header, data)
    elif kind == 4:
        shift(random, header["__metadata__"])
        raw = join(header, data)
    else:
        name = random.choice(("ids", "numbers", "source", "format", "spec"))
        depth = random.choice((10, 500, 5000, 200_000))
        text = random.choice(("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth, "[" + "0," * depth + "0]"))
        header["__metadata__"][name] = text
        raw = join(header, data)
    path.write_bytes(raw)
    return make_model(CONFIGS[number]), spec, path


def use(given: Given) -> object:
    """Load, and go on."""
    model, spec, path = given
    held = model.load_cache(path, spec)
    assert held.seen == len(held.ids)
    if not held.seen:
        return held
    for layer in held.layers:
        for name, array in layer.state().arrays.items():
            assert array.dtype.kind != "f" or np.isfinite(np.asarray(array, "f8")).all(), name
    return model([1], held) if held.seen < model.config.max_context else held
