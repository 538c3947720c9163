"""model.safetensors.index.json and its files: mutated indexes, files that are missing, cut, swapped or of another
kind; loaded and run."""

import json
import shutil

import kvsim
from tests.fuzz.mutations import TEXTS, mutate_bytes, mutate_json
from tests.fuzz.tiny import INDEX, make_header, make_tensors, pack, write_config

TENSORS = make_tensors()
FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
MAP = {name: FILES[i % 2] for i, name in enumerate(TENSORS)}
VALID = {"metadata": {"total_size": 1}, "weight_map": MAP}
PARTS = {file: pack(*make_header({n: t for n, t in TENSORS.items() if MAP[n] == file})) for file in FILES}


def write(folder, index, parts):
    """A folder with these files, and nothing else."""
    folder = folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_config(folder)
    (folder / INDEX).write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())
    for name, raw in parts.items():
        (folder / name).write_bytes(raw)
    return folder


def valid(folder):
    return write(folder, VALID, PARTS)


def rename(random):
    """The index with one tensor in a file of another name."""
    name = random.choice((*TEXTS, *FILES, "model.safetensors", "config.json", "..", ".", "/etc/passwd", "x" * 300,
                          "中" * 100, FILES[0] + "\n", "./" + FILES[0], "con", FILES[0].upper()))  # fmt: skip
    return {"weight_map": {**MAP, random.choice(list(MAP)): name}}


def make(random, folder):
    kind = random.randrange(6)
    if kind == 0:
        return write(folder, mutate_bytes(random, json.dumps(VALID).encode()), PARTS)
    if kind == 1:
        return write(folder, mutate_json(random, VALID), PARTS)
    if kind == 2:
        return write(folder, rename(random), PARTS)
    if kind == 3:
        return write(folder, VALID, {file: mutate_bytes(random, raw) for file, raw in PARTS.items()})
    if kind == 4:
        return write(folder, VALID, dict(zip(FILES, random.choices(list(PARTS.values()), k=2), strict=True)))
    made = write(folder, VALID, PARTS)
    victim = made / random.choice((*FILES, INDEX))
    victim.unlink()
    if random.random() < 0.5:
        victim.mkdir()
    elif random.random() < 0.5:
        victim.symlink_to(random.choice((victim.name, "/dev/zero", "nowhere", made / "config.json")))
    return made


def use(folder):
    model = kvsim.load(folder)
    kvsim.generate(model, [1, 2, 3], 2, stop=None)
