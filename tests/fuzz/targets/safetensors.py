"""model.safetensors: mutated bytes, headers and numbers, and configs that do not fit the tensors; loaded and run."""

import numpy as np

import kvsim
from tests.fuzz.mutations import NUMBERS, mutate_bytes, mutate_json
from tests.fuzz.tiny import CONFIG, FILE, make_header, make_tensors, pack, write_config

HEADER, DATA = make_header(make_tensors())
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F4", "F8_E4M3", "f32", "", 5, None)


def write(folder, raw, config=CONFIG):
    write_config(folder, config)
    (folder / FILE).write_bytes(raw)
    return folder


def valid(folder):
    return write(folder, pack(HEADER, DATA))


def change_entry(random):
    """The header with another dtype, shape or place of one tensor, often one that fits its bytes."""
    name = random.choice(list(HEADER))
    entry = dict(HEADER[name])
    kind = random.randrange(4)
    if kind == 0:
        entry["dtype"] = random.choice(DTYPES)
    elif kind == 1:
        entry["shape"] = random.choice((entry["shape"][::-1], [1, *entry["shape"]], [int(np.prod(entry["shape"]))], [],
                                        [random.choice(NUMBERS)], [2**32, 2**32], [0, 2**62]))  # fmt: skip
    elif kind == 2:
        entry["data_offsets"] = random.choice(list(HEADER.values()))["data_offsets"]
    else:
        entry["data_offsets"] = [entry["data_offsets"][0], random.choice(NUMBERS)]
    return {**HEADER, name: entry}


def make(random, folder):
    kind = random.randrange(6)
    if kind == 0:
        return write(folder, mutate_bytes(random, pack(HEADER, DATA)))
    if kind == 1:
        return write(folder, pack(mutate_json(random, HEADER), DATA))
    if kind == 2:
        return write(folder, pack(change_entry(random), DATA))
    if kind == 3:
        return write(folder, pack(HEADER, mutate_bytes(random, DATA, head=len(DATA))))
    if kind == 4:
        header = {**HEADER, "__metadata__": random.choice(({"a": "b"}, {"a": 1}, [], None, {"a\n": "b" * 10_000}))}
        return write(folder, pack(header, DATA))
    return write(folder, pack(HEADER, DATA), mutate_json(random, CONFIG, 2))


def use(folder):
    model = kvsim.load(folder)
    kvsim.generate(model, [1, 2, 3], 2, stop=None)
