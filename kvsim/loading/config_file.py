"""config.json to `Config`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from kvsim.checks import is_name
from kvsim.config import Config
from kvsim.errors import FileError, UsageError, shortened
from kvsim.loading.defaults import read_defaults
from kvsim.loading.facts import Facts
from kvsim.loading.families import ENCODERS_ONLY, FAMILIES, get_family
from kvsim.loading.json_file import SMALL, read_json

LATENT_FORMS = ("reexpanded", "absorbed", "cached_expanded")


def choose_latent(config: Config, form: str | None) -> Config:
    """The config with its latent attention computed in `form`. UsageError: unknown form, or no latent attention."""
    if form is None:
        return config
    if not is_name(form, LATENT_FORMS):
        raise UsageError(
            "unknown latent {form}: use one of {known}", form=shortened(form), known=", ".join(LATENT_FORMS)
        )
    if config.latent is None:
        raise UsageError("this model has no latent attention: leave out latent={form}", form=shortened(form))
    return replace(config, latent=replace(config.latent, form=cast(Any, form)))


def read_config(path: Path) -> Config:
    """The `Config` in a config.json. FileError: unknown family; a field that is missing or contradicts another."""
    return read_config_facts(path)[0]


def read_config_facts(path: Path) -> tuple[Config, dict[str, Any]]:
    """The same, with the fields that the file leaves out and the values assumed for them (defaults of transformers'
    class or of the family)."""
    facts = Facts(path, read_json(path, SMALL))
    return make_config(facts), facts.assumed


def make_config(facts: Facts) -> Config:
    """The same for facts from any source; fields they leave out take the class's default and are listed in
    `facts.assumed`."""
    path, family = facts.path, facts.fields.get("model_type")
    if family in ENCODERS_ONLY:
        raise FileError(
            "{path}: {family} is an encoder: no autoregressive generation, so no KV cache", path=path, family=family
        )
    family = facts.choice("model_type", {name: name for name in FAMILIES})
    if facts.defaults is None:
        facts.defaults = read_defaults(family)
    config = get_family(family).config(facts)
    for part in (config, config.encoder):
        if part is not None and part.n_heads % part.n_kv_heads:
            raise FileError(
                "{path}: {heads} query heads cannot share {kv} key/value heads: the first must be a multiple",
                path=path,
                heads=part.n_heads,
                kv=part.n_kv_heads,
            )
    return config


def read_start(path: Path, config: Config, assumed: Mapping[str, Any]) -> Config:
    """The config with `decoder_start_token_id` from a generation_config.json, if config.json has none."""
    written = config.start_id is not None and "decoder_start_token_id" not in assumed
    if config.encoder is None or written or not path.is_file():
        return config
    facts = Facts(path, read_json(path, SMALL))
    if facts.fields.get("decoder_start_token_id") is None:
        return config
    return replace(config, start_id=facts.index("decoder_start_token_id"))
