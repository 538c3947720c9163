"""Conformance vectors: configs, questions and exact answers, one JSON object a line, for tools in any language.

A config holds the fields of a config.json: those of the catalogue's public models (`models.json`), of the small models
of every family and variant (`small_models.json`), and of synthetic models whose axes all have different sizes. A field
that is left out has the default of transformers' configuration class for that model_type. The schema (`kvsim schema
vectors`) defines each question and its answer. The output is deterministic, byte for byte.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kvsim.config import Config
from kvsim.costs.bytes.kinds import group_layers
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.parameters import BYTES, measure_parameters
from kvsim.costs.public.models import FILE as CATALOGUE
from kvsim.costs.public.models import read_catalogue
from kvsim.costs.work.counter import Counted, count
from kvsim.counting.events import PROJECTIONS, SCORES
from kvsim.loading.config_file import LATENT_FORMS, choose_latent, make_config
from kvsim.loading.facts import Facts
from kvsim.loading.small_models import FILE as SMALL
from kvsim.schemas import dump, stamp

SCHEMA = stamp("vectors")["schema"]  # without the version of kvsim, so that vectors of two versions can be compared
DTYPE = "bfloat16"  # of the cache
CONTEXTS = (1, 4_096, 131_072)  # of public models; the last exceeds the context of many
SMALL_CONTEXTS = (1, 2, 9, 40)  # below and above the windows of the small models
RUN = {"prompt": 64, "new": 6}
SMALL_RUN = {"prompt": 5, "new": 9}
SOURCE, SMALL_SOURCE = 100, 8  # encoder positions

_LLAMA = {
    "model_type": "llama", "vocab_size": 101, "max_position_embeddings": 64, "hidden_size": 13, "intermediate_size": 17,
    "num_hidden_layers": 2, "head_dim": 10, "num_attention_heads": 6, "num_key_value_heads": 6, "hidden_act": "silu",
    "rms_norm_eps": 1e-06, "tie_word_embeddings": False,
}  # fmt: skip
_MISTRAL = {**_LLAMA, "model_type": "mistral", "num_key_value_heads": 3, "num_hidden_layers": 3}
_MIXTRAL = {**_MISTRAL, "model_type": "mixtral", "num_local_experts": 5, "sliding_window": None}
_GPT2 = {
    "model_type": "gpt2", "vocab_size": 101, "n_positions": 64, "n_embd": 14, "n_layer": 3, "n_head": 7,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05,
}  # fmt: skip
MADE: dict[str, dict[str, Any]] = {
    **{f"llama-kv-{heads}": {**_LLAMA, "num_key_value_heads": heads} for heads in (6, 3, 2, 1)},
    "llama-tied": {**_LLAMA, "tie_word_embeddings": True},
    "llama-biased": {**_LLAMA, "attention_bias": True, "mlp_bias": True},
    "llama-one-layer": {**_LLAMA, "num_hidden_layers": 1},
    **{f"mistral-window-{width}": {**_MISTRAL, "sliding_window": width} for width in (1, 2, 7, 39, 40, 41)},
    "mistral-no-window": {**_MISTRAL, "sliding_window": None},
    **{f"mixtral-{chosen}-of-5": {**_MIXTRAL, "num_experts_per_tok": chosen} for chosen in (1, 2, 5)},
    "mixtral-window": {**_MIXTRAL, "num_experts_per_tok": 2, "sliding_window": 7},
    **{f"gpt2-wide-{width}": {**_GPT2, "n_inner": width} for width in (11, 56)},
}


class Subject(NamedTuple):
    """A model of the vectors."""

    name: str
    fields: dict[str, Any]  # of its config.json
    small: bool  # small enough that its vectors list every site

    def config(self, latent: str | None) -> Config:
        """The config that the fields define, with latent attention in the form `latent`."""
        path = SMALL if self.small else CATALOGUE
        return choose_latent(make_config(Facts(path, self.fields)), latent)


def list_subjects() -> Iterator[Subject]:
    """Public models, small models of every family, synthetic models."""
    for name, entry in read_catalogue().items():
        yield Subject(name, entry["config"], small=False)
    for name, fields in json.loads(SMALL.read_text(encoding="utf-8")).items():
        yield Subject(f"small/{name}", fields, small=True)
    for name, fields in MADE.items():
        yield Subject(f"made/{name}", fields, small=True)


Question = dict[str, Any]
Answer = dict[str, Any]


def list_questions(subject: Subject) -> Iterator[Question]:
    """The questions for a model; with latent attention, for each of its forms."""
    yield {"ask": "parameters"}
    config = subject.config(None)
    source = None if config.encoder is None else SMALL_SOURCE if subject.small else SOURCE
    run = SMALL_RUN if subject.small else RUN
    for form in (None,) if config.latent is None else LATENT_FORMS:
        shared = {"latent": form, "source": source}
        for context in SMALL_CONTEXTS if subject.small else CONTEXTS:
            yield {"ask": "kv_bytes", "context": context, "dtype": DTYPE, **shared}
        for seen, fed in ((0, 6), (9, 1)) if subject.small else ((0, 4_096), (4_096, 1)):
            yield {"ask": "sites" if subject.small else "step", "seen": seen, "fed": fed, **shared}
        for cache in ("dynamic", "none"):
            yield {"ask": "run", **run, "cache": cache, **shared}
        if subject.small:
            for layers in group_layers(config.layers).values():
                yield {"ask": "cells", **run, "layer": layers[0], **shared}


def answer_parameters(config: Config, question: Question) -> Answer:
    """Parameter counts, and bytes by dtype."""
    found = measure_parameters(config)
    return {
        "total": found.total,
        "active": found.active,
        "without_embeddings": found.without_embeddings,
        "active_without_embeddings": found.active_without_embeddings,
        "bytes": {dtype: found.total * size for dtype, size in BYTES.items()},
    }


def answer_kv_bytes(config: Config, question: Question) -> Answer:
    """Bytes that a lossless cache must hold: in all, by layer, and for the source."""
    context, source = question["context"], question["source"]
    memory = measure_memory(config, [context], dtype=question["dtype"], source=source)
    (held,) = memory.contexts
    by_window = {  # bytes of one layer
        rows.window: rows.numbers // rows.layers * rows.held(context, 0) * memory.kept.item
        for rows in memory.rows
        if not rows.cross
    }
    layers = [by_window[kind.window] for kind in config.layers]
    return {"bytes": held.logical, "layers": layers, "cross": held.cross}


def _totals(counted: Counted) -> Answer:
    """The totals of a run or of a step."""
    return {
        "macs": counted.macs,
        "flops": counted.flops,
        "useful_macs": counted.useful_macs,
        "useful_flops": 2 * counted.useful_macs,
    }


def _step(config: Config, question: Question) -> Counted:
    """The step that `question` is about."""
    if question["seen"] == 0:
        return count(config, prompt=question["fed"], source=question["source"]).step(1)
    return count(config, prompt=question["seen"], new=2, source=question["source"]).step(2)


def answer_step(config: Config, question: Question) -> Answer:
    """The totals of one step: a prompt fed to an empty cache, or one token fed to a cache that has seen others."""
    return _totals(_step(config, question))


def answer_sites(config: Config, question: Question) -> Answer:
    """The totals of one step, and the multiply-accumulates of every site."""
    step = _step(config, question)
    return _totals(step) | {"sites": {site: totals.macs for site, totals in sorted(step.by("site").items())}}


def answer_run(config: Config, question: Question) -> Answer:
    """The totals of a whole run, and the bytes that its cache holds at the end."""
    options = {key: question[key] for key in ("prompt", "new", "cache", "source")}
    counted = count(config, dtype=DTYPE, **options)
    return _totals(counted) | {"kv_bytes": counted.kv_bytes}


def answer_cells(config: Config, question: Question) -> Answer:
    """Score cells and projected rows with and without a cache, for one head of one layer.

    A single token computes one cell and one row of each projection, so its costs are the units.
    """
    source, layer = question["source"], f"layers.{question['layer']}"
    unit = count(config, prompt=1, source=source).by("site")
    found = {}
    for name, cache in (("no_cache", "none"), ("cached", "dynamic")):
        run = count(config, prompt=question["prompt"], new=question["new"], cache=cache, source=source)
        sites = run.by("site")
        rows = [site for site in (f"{layer}.{kind}" for kind in PROJECTIONS) if site in sites]
        scores, one = sites[f"{layer}.{SCORES}"], unit[f"{layer}.{SCORES}"].macs
        found[name] = {
            "score_cells": scores.macs // one,
            "useful_cells": scores.useful_macs // one,
            "projected_rows": sum(sites[site].macs // unit[site].macs for site in rows),
        }
    return found


ANSWERS = {
    "parameters": answer_parameters,
    "kv_bytes": answer_kv_bytes,
    "step": answer_step,
    "sites": answer_sites,
    "run": answer_run,
    "cells": answer_cells,
}


def list_vectors(subjects: Iterable[Subject] | None = None) -> Iterator[dict[str, Any]]:
    """Every vector of some subjects, or of all, as a record: schema, id, config, question, answer."""
    for subject in list_subjects() if subjects is None else subjects:
        for question in list_questions(subject):
            answer = ANSWERS[question["ask"]](subject.config(question.get("latent")), question)
            values = "/".join(str(value) for value in question.values() if value is not None)
            yield {
                "schema": SCHEMA,
                "id": f"{subject.name}/{values}",
                "config": subject.fields,
                "question": question,
                "answer": answer,
            }


def to_line(vector: dict[str, Any]) -> str:
    """The vector as JSON on one line."""
    return dump(vector)
