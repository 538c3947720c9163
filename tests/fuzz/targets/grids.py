"""Mutated grids of `kvsim plan --sweep`, and the first rows of those that are accepted."""

import json

from kvsim.costs.plans.grid import read_grid
from kvsim.costs.plans.sweep import make_rows
from tests.fuzz.mutations import mutate_bytes, mutate_json

GRID = {
    "models": ["llama-2-7b-hf", "gemma-2-9b", "t5-small", "mixtral-8x7b-v0.1"],
    "devices": ["a10", "h100", "t4"],
    "contexts": [1, 4_096, 10**18],
    "batches": [1, 8],
    "dtypes": [None, "int4", "float16"],
    "cache_dtypes": [None, "int8:zero", "fp8"],
    "parallel": [1, 4],
    "utilizations": ["0.9", 1, 0.5],
    "source": 100,
}


def write(folder, data):
    path = folder / "grid.json"
    path.write_bytes(data)
    return path


def valid(folder):
    return write(folder, json.dumps(GRID).encode())


def make(random, folder):
    if random.random() < 0.3:
        return write(folder, mutate_bytes(random, json.dumps(GRID).encode()))
    return write(folder, json.dumps(mutate_json(random, GRID)).encode())


def use(path):
    grid = read_grid(path)
    rows = make_rows(grid, 0, min(grid.points, 50))
    assert len(rows) == min(grid.points, 50)
