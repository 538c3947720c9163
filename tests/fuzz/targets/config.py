"""Mutated config.json files of every family, through everything that needs a config and no weights."""

import json
import math
import shutil

from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.policies import list_policies
from kvsim.costs.plans.planning import plan
from kvsim.costs.public.models import find_assumed, find_config, read_catalogue
from kvsim.costs.work.cost import cost
from kvsim.costs.work.counter import count
from kvsim.errors import shortened
from kvsim.generation.generate import generate
from kvsim.i18n.language import words
from kvsim.loading.loader import load
from kvsim.loading.places import BUNDLED
from kvsim.loading.small_models import FILE
from kvsim.views.json.cost import to_dict
from kvsim.views.terminal.cost import format_cost
from kvsim.views.terminal.memory import format_memory
from kvsim.views.terminal.plan import format_plan
from kvsim.views.terminal.screen import Screen
from tests.fuzz.mutations import mutate_json

SIZES = (1, 7, 4_096, 131_072, 2**33, 10**18)
CACHES = ("dynamic", "none", "static:64", "window:256", "sinks:4+252", "paged:16")


def read_configs():
    """The fields of every public and small model."""
    return [entry["config"] for entry in read_catalogue().values()] + list(json.loads(FILE.read_text()).values())


def write(folder, fields):
    path = folder / "config.json"
    path.write_text(json.dumps(fields))
    return path


def valid(folder):
    shutil.copytree(BUNDLED["demo"], folder / "demo")
    return write(folder, read_configs()[0]), 0, (1, 1, 1), "dynamic"


def inflate(random, fields):
    """A copy with some of its numbers, and lists of layers, replaced by large ones."""
    fields = dict(fields)
    for key in random.sample([key for key, value in fields.items() if type(value) is int], random.randint(1, 2)):
        fields[key] = random.choice((fields[key] * 2**20, 10_000, 2**20, 2**33, 2**39, 2**40 - 1))
    return fields


def make(random, folder):
    fields = random.choice(read_configs())
    if random.random() < 0.1:  # the demo's weights and tokenizer, with another config
        fields = mutate_json(random, json.loads((BUNDLED["demo"] / "config.json").read_text()))
        return write(folder / "demo", fields), 5, (1, 1, 1), random.choice(CACHES)
    kind = random.randrange(5)
    fields = inflate(random, fields) if kind < 3 else mutate_json(random, fields, 1 if kind == 3 else 3)
    return write(folder, fields), random.randrange(5), random.choices(SIZES, k=3), random.choice(CACHES)


def use(given):
    path, what, (prompt, new, source), cache = given
    if what == 5:
        generate(load(path.parent), "中华", max_new_tokens=2, cache=cache)
        return
    config = find_config(path)[1]
    source = source if config.encoder is not None else None
    say = words("en")
    if what == 0:
        assumed = {key: shortened(value) for key, value in find_assumed(path).items()}
        assert all(len(text) <= 80 for text in assumed.values())
        format_memory(measure_memory(path, [prompt, new], batch=new, source=source), say, Screen(60), "", True)
    elif what == 1:
        found = count(path, prompt=prompt, new=new, cache=cache, source=source)
        assert found.flops > 0
        found.by("kind")
    elif what == 2:
        found = cost(path, prompt=prompt, new=new, cache=cache, source=source)
        assert math.isfinite(float(found.ratio("causal")))
        to_dict(found, ["square", "causal", "last"], None, None, None)
        format_cost(found, ["square", "causal", "last"], None, None, say, Screen(60))
    elif what == 3:
        format_plan(plan(path, "a10", prompt, dtype="int8", cache_dtype="int8", source=source), (), say, Screen(60))
    else:
        list_policies(path).to_dict()
