"""Cache specs: texts in their grammar with hostile numbers, and texts in none; used on a small model of shapes and on
one with arrays."""

import kvsim
from kvsim.caches.specs import POLICIES, parse_spec
from kvsim.costs.work.counter import count
from kvsim.errors import UsageError
from kvsim.loading.loader import load
from tests.fuzz.mutations import NUMBERS, TEXTS, draw_value

WORDS = ("group", "residual", "zero", "budget", "recent", "window", "static", "e5m2", "e4m3", "blocks", "pool")
GRAMMAR = ("static:{0}", "window:{0}", "sinks:{0}+{1}", "paged:{0}", "h2o:{0}", "snapkv:{0}", "knorm:{0}",
           "int8:group={0},residual={1}", "int4:zero,group={0}", "fp8:head,residual={0}")  # fmt: skip
PARTS = (":", "+", ",", "=", "")


def draw_spec(random):
    """A spec that is likely to be read as one."""
    kind = random.randrange(12)
    if kind == 0:
        return draw_value(random)
    if kind == 1:
        return random.choice(TEXTS)
    if kind == 2:
        return "offload:" * random.choice((1, 2, 1_000)) + random.choice(tuple(POLICIES))
    number = [random.choice((1, 2, 3, 4, 8, 64, 2**20, 2**31, 2**60, 10**18, 10**19, 10**30)) for _ in range(2)]
    if kind < 9:
        text = random.choice(GRAMMAR).format(*number)
        return f"offload:{text}" if random.random() < 0.2 else text
    text = random.choice(tuple(POLICIES))
    for _ in range(random.randrange(4)):
        text += random.choice(PARTS) + str(random.choice((*NUMBERS, *WORDS, 4, 8, 16, 32, 64, "0004", "٣", "1_0")))
    return text


def valid(folder):
    return "dynamic"


def make(random, folder):
    return draw_spec(random)


def use(spec):
    model = load("demo")
    assert str(parse_spec(str(parse_spec(spec)))) == str(parse_spec(spec))
    run = kvsim.generate(model, "中", max_new_tokens=2, cache=spec)
    assert len(run.ids) == 3
    try:
        count("gpt2", prompt=10**18, new=10**17, cache=spec)
    except UsageError as error:  # of a policy whose costs depend on more than lengths
        if "not polynomials" not in str(error):
            raise
