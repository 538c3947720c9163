"""The smallest target: kvsim's reader of JSON files, on mutated bytes of a config."""

from kvsim.loading.json_file import read_json
from tests.fuzz.mutations import mutate_bytes

TEXT = b'{"model_type": "llama", "layers": [1, 2, {"a": 1.5e3}], "tie": true, "name": "\\u4e2d", "none": null}'


def valid(folder):
    path = folder / "values.json"
    path.write_bytes(TEXT)
    return path


def make(random, folder):
    path = folder / "values.json"
    path.write_bytes(mutate_bytes(random, TEXT))
    return path


def use(path):
    read_json(path)
