"""Small configs of every family and variant, a few kilobytes of weights each, on which backends are compared.

The configs are written by transformers (small_models.json); `random_weights` makes models of them.
"""

import json
from pathlib import Path

from kvsim.config import Config
from kvsim.loading.config_file import make_config
from kvsim.loading.facts import Facts

FILE = Path(__file__).resolve().parent / "small_models.json"


def read_small_models() -> dict[str, Config]:
    """Name to config: "llama_yarn", "deepseek_v3", "whisper" ..."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: make_config(Facts(FILE, fields)) for name, fields in stored.items()}
