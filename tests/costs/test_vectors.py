"""Conformance vectors: every line again by running the meta model step by step, no symbol and no sum over contexts:
all layers of the small models, of the made ones and of gpt2, one layer of each kind of the other public ones."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache, lru_cache
from math import prod
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.blueprint import build_weights
from kvsim.cli import run as run_command
from kvsim.costs.public.models import read_catalogue
from kvsim.costs.vectors import MADE, list_questions, list_subjects, list_vectors, to_line
from kvsim.counting.ledger import Ledger, total
from kvsim.loading.config_file import choose_latent, make_config
from kvsim.loading.facts import Facts
from kvsim.loading.families import FAMILIES
from tests.arrays.runs import FIRST_OF_FAMILY, ZOO
from tests.costs.work.test_counter import shapes
from tests.marks import case

SCHEMA = json.loads((Path(kvsim.__file__).parent / "schemas" / "vectors-1.json").read_text(encoding="utf-8"))
SUBJECTS = {subject.name: subject for subject in list_subjects()}
NAMES = [*SUBJECTS]


def read(vector):
    """The config as another tool reads it: from the line alone."""
    fields = json.loads(to_line(vector))["config"]
    config = make_config(Facts(Path("line"), {**fields}))
    return choose_latent(config, vector["question"].get("latent"))


@cache
def vectors_of(name):
    """The vectors of one subject: every process would make the whole list again."""
    return list(list_vectors([SUBJECTS[name]]))


@cache
def asked():
    """The fields and the question of every vector: what takes time is the answers."""
    return [(subject.fields, question) for subject in SUBJECTS.values() for question in list_questions(subject)]


@lru_cache(maxsize=1)
def model_of(config, dtype):
    """Room for contexts beyond the model's: a look-up costs nothing."""
    encoder = config.encoder and replace(config.encoder, max_context=10**6)
    return shapes(replace(config, max_context=10**6, encoder=encoder), dtype)


EVERY_LAYER = 16  # models with more layers are run with the first of each kind


def first_of_each(part):
    """The same model with one layer of each kind, and which of them each of its layers is."""
    if part.n_layers <= EVERY_LAYER:
        return part, list(range(part.n_layers))
    kinds = list(dict.fromkeys(part.layers))
    return replace(part, layers=tuple(kinds), n_layers=len(kinds)), [kinds.index(kind) for kind in part.layers]


class Stepper:
    """A model of shapes that is fed step by step; events by step, those of every layer."""

    def __init__(self, config, cache, source, dtype="bfloat16"):
        small, self.of = first_of_each(config)
        if config.encoder is not None:
            encoder, self.of_encoder = first_of_each(config.encoder)
            small = replace(small, encoder=encoder)
        self.model = model_of(small, dtype)
        self.cache = self.model.new_cache(cache)
        self.config, self.states, self.source = config, {}, source
        self.steps = []

    def feed(self, count):
        with self.model.count() as ledger:
            if self.config.encoder is not None and not self.states:
                audio = self.config.encoder.audio
                given = {"ids": [1] * self.source}
                if audio is not None:
                    features = self.model.ops.xp.empty((audio.n_mels, 2 * self.source), dtype=self.model.ops.dtype)
                    given = {"features": features}
                self.states = {"encoder_states": self.model.encode(**given)}
            self.model([0] * count, self.cache, **self.states)
        self.steps.append(Ledger(self.of_every_layer(ledger.events)))
        return self.steps[-1]

    def of_every_layer(self, events):
        """An event of one layer stands for that of every layer of its kind."""
        found = []
        for event in events:
            head, layered, rest = event.site.partition("layers.")
            if not layered:
                found.append(event)
                continue
            number, _, place = rest.partition(".")
            of = self.of_encoder if head else self.of
            found += [event._replace(site=f"{head}layers.{i}.{place}") for i, j in enumerate(of) if j == int(number)]
        return found

    def kept(self):
        """Bytes of the cache of every layer, and of every cross layer."""
        layers, cross = ([one.logical_bytes for one in part] for part in (self.cache.layers, self.cache.cross))
        return [layers[j] for j in self.of], [cross[j] for j in self.of] if cross else []


@lru_cache(maxsize=4)
def generate(config, cache, source, prompt, new):
    """A stepper that was fed a prompt and, one by one, all new tokens but the last; several questions ask for it."""
    stepper = Stepper(config, cache, source)
    for stop in range(prompt, prompt + new):
        stepper.feed(stop - stepper.cache.seen)
    return stepper


def work(events):
    found = total(events)
    return {"macs": found.macs, "flops": sum(2 * e.b * e.m * e.k * e.n for e in events),
            "useful_macs": found.useful_macs, "useful_flops": 2 * found.useful_macs}  # fmt: skip


def parameters(config, question):
    """Every array of every layer, one by one."""
    arrays = []
    build_weights(config, lambda name, shape: arrays.append((name, prod(shape))))
    shared = config.encoder is not None and config.encoder.audio is None
    arrays = [(name, size) for name, size in arrays if not (shared and name == "encoder.tokens")]
    outside = ("tokens", "encoder.tokens", "positions.", "encoder.positions", "positions", "project_in", "head.",
               "head", "project_out", "encoder.convolutions")  # fmt: skip
    tables = sum(size for name, size in arrays if name.startswith(outside))
    idle = 0
    for name, size in arrays:
        parts = name.split(".")
        if "experts" in parts and not name.endswith("router"):
            layer, which = int(parts[parts.index("layers") + 1]), int(parts[parts.index("experts") + 1])
            idle += size if which >= config.layers[layer].experts.chosen else 0
    whole = sum(size for _, size in arrays)
    return {
        "total": whole, "active": whole - idle, "without_embeddings": whole - tables,
        "active_without_embeddings": whole - tables - idle,
        "bytes": {"float64": 8 * whole, "float32": 4 * whole, "float16": 2 * whole, "bfloat16": 2 * whole},
    }  # fmt: skip


def kv_bytes(config, question):
    """What the caches of the layers hold after all tokens were fed."""
    context, source = question["context"], question["source"]
    stepper = Stepper(config, "dynamic", source)
    stepper.feed(context)
    layers, cross = stepper.kept()
    return {"bytes": sum(layers) + sum(cross), "layers": layers, "cross": sum(cross)}


def step(config, question):
    stepper = Stepper(config, "dynamic", question["source"])
    if question["seen"]:
        stepper.feed(question["seen"])
    return work(stepper.feed(question["fed"]).events), stepper.steps[-1].events


def sites(config, question):
    told, events = step(config, question)
    found = {}
    for event in events:
        found[event.site] = found.get(event.site, 0) + event.macs
    return told | {"sites": found}


def generation(config, question):
    stepper = generate(config, question["cache"], question["source"], question["prompt"], question["new"])
    events = [event for ledger in stepper.steps for event in ledger.events]
    return work(events) | {"kv_bytes": sum(map(sum, stepper.kept()))}


def cells(config, question):
    """Rows and columns as the products had them; admitted pairs counted one by one."""
    found, layer, window = {}, question["layer"], config.layers[question["layer"]].window
    for name, policy in (("no_cache", "none"), ("cached", "dynamic")):
        stepper = generate(config, policy, question["source"], question["prompt"], question["new"])
        useful = 0
        for number in range(question["new"]):
            stop = question["prompt"] + number
            start = 0 if policy == "none" or number == 0 else stop - 1
            useful += sum(1 for q in range(start, stop) for k in range(q + 1) if window is None or q - k < window)
        found[name] = {
            "score_cells": sum(ledger.score_cells(layer) for ledger in stepper.steps),
            "useful_cells": useful,
            "projected_rows": sum(ledger.projected_rows(layer) for ledger in stepper.steps),
        }
    return found


AGAIN = {"parameters": parameters, "kv_bytes": kv_bytes, "step": lambda *asked: step(*asked)[0], "sites": sites,
         "run": generation, "cells": cells}  # fmt: skip


def numbers(value):
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    else:
        yield value


# Of the small models, the first of each family; of the public ones, not the second and third of an architecture. The
# others with the extra dev.
FIRST = [f"small/{name}" for name in FIRST_OF_FAMILY]
LIKE_OTHERS = ["kimi-k2-instruct", "deepseek-r1", "deepseek-v2", "qwen3-coder-480b-a35b-instruct", "qwen3-30b-a3b"]


@pytest.mark.parametrize(
    "name", [case(n, id=n, dev=(n.startswith("small/") and n not in FIRST) or n in LIKE_OTHERS) for n in NAMES]
)
def test_every_answer_again(name):
    """Each answer is that of the second way, in exact integers, and its line is in the schema."""
    mine, check = vectors_of(name), jsonschema.Draft202012Validator(SCHEMA)
    assert mine
    for vector in mine:
        question, answer = vector["question"], vector["answer"]
        assert answer == AGAIN[question["ask"]](read(vector), question), vector["id"]
        assert all(type(number) is int and number >= 0 for number in numbers(answer)), vector["id"]
        check.validate(json.loads(to_line(vector)))


def test_the_schema_refuses_other_lines():
    check, mine = jsonschema.Draft202012Validator(SCHEMA), vectors_of("gpt2")
    wrong = [{**mine[0], "answer": {}}, {**mine[0], "schema": "kvsim.vectors/2"}, {**mine[0], "more": 1}]
    kv = next(v for v in mine if v["question"]["ask"] == "kv_bytes")
    wrong.append({**kv, "answer": {**kv["answer"], "bytes": 1.5}})
    wrong.append({**kv, "question": {**kv["question"], "ask": "step"}})
    assert not any(check.is_valid(vector) for vector in wrong)


@pytest.mark.parametrize(("language", "noun"), [("en", "questions"), ("zh", "道题")])
def test_the_docs_say_how_many_there_are(language, noun):
    pages = (Path(__file__).parents[2] / "docs" / language).glob("*.md")
    assert any(f"{len(asked()):,} {noun}" in page.read_text(encoding="utf-8") for page in pages)


def test_all_families_forms_and_small_models_are_asked():
    assert {fields["model_type"] for fields, _ in asked()} == set(FAMILIES)
    assert [*read_catalogue(), *(f"small/{name}" for name in ZOO), *(f"made/{name}" for name in MADE)] == NAMES
    assert {question.get("latent") for _, question in asked()} == {None, "reexpanded", "absorbed", "cached_expanded"}
    assert len({json.dumps(one) for one in asked()}) >= 300


def test_known_lines():
    known = {v["id"]: v["answer"] for name in ("llama-2-7b-hf", "deepseek-v3") for v in vectors_of(name)}
    assert known["llama-2-7b-hf/parameters"]["bytes"]["float16"] == 13_476_831_232
    assert known["llama-2-7b-hf/step/4096/1"]["flops"] == 13_214_154_752 + 524_288 * 4_097
    assert known["llama-2-7b-hf/step/0/4096"]["flops"] == 62_921_270_886_400
    assert known["llama-2-7b-hf/step/0/4096"]["useful_flops"] == 58_524_298_117_120
    assert known["deepseek-v3/kv_bytes/1/bfloat16/absorbed"]["bytes"] == 70_272


def test_the_command_prints_them_the_same_every_time(capsys):
    """The list made here and the one that another process prints, whatever its language and its order of sets."""
    again = subprocess.run(
        [sys.executable, "-m", "kvsim", "vectors", "--lang", "zh"], capture_output=True, check=True,
        env={"PYTHONHASHSEED": "7", "LC_ALL": "C"},
    )  # fmt: skip
    vectors = [vector for name in NAMES for vector in vectors_of(name)]
    assert again.stdout.decode() == "".join(to_line(vector) + "\n" for vector in vectors)
    assert not again.stderr
    assert [(vector["config"], vector["question"]) for vector in vectors] == asked()
    assert len({vector["id"] for vector in vectors}) == len(vectors)
    assert all("\n" not in to_line(vector) for vector in vectors)
    assert run_command(["schema", "vectors"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


FLOPS = ("gpt2", "llama-2-7b-hf",
         "llama-3.1-405b", "mistral-7b-v0.1", "qwen2.5-7b", "qwen3-8b", "olmo-2-0425-1b", "phi-2",
         "pythia-12b", "gemma-7b", "gemma-2-9b", "smollm3-3b", "falcon-40b", "opt-66b")  # fmt: skip


@pytest.mark.dev
@pytest.mark.parametrize("name", FLOPS)
def test_torch_counts_the_same(name):
    """transformers' own model on meta tensors, which needs positions and a mask given; eager: full squares."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCausalLM

    known = {vector["id"]: vector for vector in vectors_of(name)}
    line = known[f"{name}/step/0/4096"]
    config = AutoConfig.for_model(**line["config"])
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        ids, pos = torch.zeros((1, 4096), dtype=torch.long), torch.arange(4096)[None]
        mask = torch.zeros((1, 1, 4096, 4096))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            theirs(input_ids=ids, position_ids=pos, attention_mask=mask, use_cache=False)
    assert counter.get_total_flops() == line["answer"]["flops"]
    parameters = known[f"{name}/parameters"]["answer"]["total"]
    assert parameters == sum(p.numel() for p in theirs.parameters()) - (2 * config.hidden_size if "opt" in name else 0)
