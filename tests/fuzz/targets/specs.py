"""Cache specs: texts in their grammar with hostile numbers, and texts in none; used on a small model of shapes and on
one with arrays."""

import kvsim
from kvsim.caches.specs import POLICIES, parse_spec
from kvsim.costs.work.counter import count
from kvsim.errors import UsageError
from kvsim.loading.loader import load
from tests.fuzz.mutations import NUMBERS, TEXTS, draw_value

WORDS = ("group", "residual", "zero", "budget", "recent", "window", "static", "e5m2", "e4m3", "blocks", "pool")
PARTS = (":", "+", ",", "=", "")


def draw_spec(random):
    """A spec that is likely to be read as one."""
    kind = random.randrange(8)
    if kind == 0:
        return draw_value(random)
    if kind == 1:
        return random.choice(TEXTS)
    if kind == 2:
        return "offload:" * random.choice((1, 2, 1_000)) + random.choice(tuple(POLICIES))
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
