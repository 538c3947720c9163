"""Model families, one a file: how a config.json and tensor names map to kvsim's.

A family is a module with `config(facts) -> Config`, `tensor(name, config) -> Source`, `PREFIX` (which a
checkpoint of the bare model leaves out) and `IGNORED` (patterns of stored names that are no weights), and
one line in `FAMILIES`.
"""

from importlib import import_module
from typing import Protocol, cast

from kvsim.config import Config
from kvsim.loading.facts import Facts
from kvsim.loading.sources import Source

_ROOM = "kvsim.loading.families."
FAMILIES = {
    "bart": "bart",
    "bloom": "bloom",
    "cohere": "cohere",
    "deepseek_v2": "deepseek",
    "deepseek_v3": "deepseek",
    "falcon": "falcon",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3_text": "gemma",
    "gpt2": "gpt2",
    "gpt_bigcode": "gpt_bigcode",
    "gpt_neox": "gpt_neox",
    "gpt_oss": "gpt_oss",
    "gptj": "gptj",
    "llama": "llama",
    "mbart": "bart",
    "mistral": "llama",
    "mixtral": "mixtral",
    "mpt": "mpt",
    "olmo2": "olmo2",
    "opt": "opt",
    "phi": "phi",
    "phi3": "phi3",
    "qwen2": "llama",
    "qwen3": "llama",
    "qwen3_moe": "qwen3_moe",
    "smollm3": "llama",
    "t5": "t5",
    "whisper": "bart",
}
ENCODERS_ONLY = (
    "albert", "bert", "camembert", "clip", "deberta", "deberta-v2", "distilbert", "electra", "longformer",
    "modernbert", "mpnet", "roberta", "vit", "xlm-roberta",
)  # fmt: skip


class Family(Protocol):
    PREFIX: str
    IGNORED: tuple[str, ...]

    def config(self, facts: Facts) -> Config: ...

    def tensor(self, name: str, config: Config) -> Source: ...


def get_family(model_type: str) -> Family:
    """The family of a config.json's `model_type`, one of `FAMILIES`."""
    return cast(Family, import_module(_ROOM + FAMILIES[model_type]))
