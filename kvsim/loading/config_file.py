"""config.json to `Config`."""

from pathlib import Path

from kvsim.config import Config
from kvsim.errors import FileError
from kvsim.loading.facts import Facts
from kvsim.loading.families import FAMILIES, get_family
from kvsim.loading.json_file import read_json


def read_config(path: Path) -> Config:
    """The facts in a config.json. FileError: unknown family, a field that lacks or contradicts."""
    facts = Facts(path, read_json(path))
    config = get_family(facts.choice("model_type", {name: name for name in FAMILIES})).config(facts)
    if config.n_heads % config.n_kv_heads:
        raise FileError(
            "{path}: {heads} query heads cannot share {kv} key/value heads: the first must be a multiple",
            path=path,
            heads=config.n_heads,
            kv=config.n_kv_heads,
        )
    if config.positions == "rope" and config.d_head % 2:
        raise FileError(
            "{path}: rotary positions turn pairs, so the head size must be even, not {size}",
            path=path,
            size=config.d_head,
        )
    return config
