"""08: bytes of a cache, and what fits beside the weights, for public models and devices drawn with the seed."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from kvsim.config import Config
from kvsim.costs.bytes.growth import Growth
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.parameters import BYTES, count_parameters
from kvsim.costs.plans.planning import list_readings, plan
from kvsim.costs.public.devices import find_device
from kvsim.costs.public.models import find_config
from kvsim.learn.answers import Answer
from kvsim.learn.checking import Given
from kvsim.testing.subject.calls import Problem, UnreadableError

# Models of full attention: with fewer heads of K and V than of Q, with as many, and too large for one device.
GROUPED = ("llama-3.1-8b", "qwen2.5-7b", "smollm3-3b", "qwen3-8b", "llama-3.2-1b", "aya-23-8b", "qwen3-0.6b")
EQUAL = ("llama-2-7b-hf", "mpt-7b", "gemma-7b", "olmo-2-0425-1b", "phi-2", "smollm2-1.7b", "gpt2-xl")
SMALL = ("llama-3.2-1b", "smollm3-3b", "qwen3-0.6b", "qwen2.5-0.5b")  # that fit in float32, too
LARGE = ("llama-2-70b-hf", "falcon-40b", "qwen2.5-72b", "c4ai-command-r-plus")
DEVICES = ("a10", "l4", "l40s", "a100-40gb")
CONTEXTS = (1000, 1500, 3000)  # tokens of a request
OWN = "a10"
DTYPES = {16: "float16", 32: "float32"}


class Case(NamedTuple):
    """A model on a device, all numbers of `bits` bits, and requests of `context` tokens."""

    model: str
    bits: int
    device: str
    context: int

    @property
    def config(self) -> Config:
        return find_config(self.model)[1]

    @property
    def sizes(self) -> tuple[int, ...]:
        c = self.config
        return c.n_layers, c.n_heads, c.n_kv_heads, c.d_head, self.bits

    @property
    def parameters(self) -> int:
        return count_parameters(self.config)

    @property
    def readings(self) -> dict[str, int]:
        """Bytes of the device's memory, by what its size is taken for."""
        return list_readings(find_device(self.device))

    @property
    def memory_gb(self) -> int:
        return self.readings["gb"] // 10**9

    @property
    def per_token(self) -> int:
        return measure_memory(self.config, [1], dtype=DTYPES[self.bits]).row_bytes

    @property
    def weights(self) -> int:
        """Bytes."""
        return self.parameters * BYTES[DTYPES[self.bits]]


def draw(seed: int) -> list[Case]:
    """The cases of a seed, among them one in 32 bits and one whose weights do not fit."""
    generator = np.random.default_rng(seed)

    def pick(names: tuple[Any, ...]) -> Any:
        return names[int(generator.integers(len(names)))]

    return [
        Case(pick(EQUAL), 16, OWN, pick(CONTEXTS)),
        Case(pick(GROUPED), 16, pick(DEVICES), pick(CONTEXTS)),
        Case(pick(SMALL), 32, pick(DEVICES), pick(CONTEXTS)),
        Case(pick(LARGE), 16, OWN, pick(CONTEXTS)),
    ]


def own_case(seed: int) -> Case:
    """The case of the predictions."""
    return Case(GROUPED[seed % len(GROUPED)], 16, OWN, CONTEXTS[seed % len(CONTEXTS)])


# What the functions give if a mistake is made, by its id; the right result is under "".


def rows(case: Case) -> dict[str, Any]:
    """Of bytes_per_token."""
    right = case.per_token
    every = replace(case.config, n_kv_heads=case.config.n_heads)
    return {
        "": right, "one_of_two": right // 2, "layers_left_out": right // case.config.n_layers,
        "query_heads_counted": measure_memory(every, [1], dtype=DTYPES[case.bits]).row_bytes,
        "head_size_left_out": right // case.config.d_head, "bits_for_bytes": right * 8,
        "always_two_bytes": case._replace(bits=16).per_token,
    }  # fmt: skip


def rooms(case: Case) -> Iterator[tuple[str, int]]:
    """Bytes beside the weights."""
    memory = case.readings["gb"]
    yield "gib_for_gb", case.readings["gib"] - case.weights
    yield "weights_left_out", memory
    yield "parameters_as_bytes", memory - case.parameters
    yield "bits_for_bytes", memory - 8 * case.weights
    yield "always_two_bytes", memory - case._replace(bits=16).weights


def shares(room: int, each: int) -> dict[str, Any]:
    """`room` bytes in parts of `each`, rounded down in the right way and in wrong ones."""
    exact = Fraction(room, each)
    return {"": Growth(0, each, (), None, 0).tokens(room), "below_zero": room // each,
            "rounded_up": max(0, -(-room // each)), "not_whole": float(exact) if exact > 0 else 0.0}  # fmt: skip


def tokens(case: Case) -> dict[str, Any]:
    """Of longest_context."""
    room = case.readings["gb"] - case.weights
    wrong = {id: shares(other, case.per_token)[""] for id, other in rooms(case)}
    return shares(room, case.per_token) | wrong | {"": find_fit(case)[0]}


def requests(case: Case) -> dict[str, Any]:
    """Of most_requests."""
    each, room = case.per_token * case.context, case.readings["gb"] - case.weights
    wrong = {id: shares(other, each)[""] for id, other in rooms(case)}
    more = {"context_left_out": find_fit(case)[0],
            "weights_for_each": shares(case.readings["gb"], case.weights + each)[""]}  # fmt: skip
    return shares(room, each) | wrong | more | {"": find_fit(case)[1]}


def find_fit(case: Case) -> tuple[int, int]:
    """Tokens of one request, and requests, as kvsim plans them."""
    found = plan(case.config, case.device, case.context, dtype=DTYPES[case.bits]).fits[0]
    return found.tokens or 0, found.requests or 0


FUNCTIONS = {"bytes_per_token": rows, "longest_context": tokens, "most_requests": requests}


def arguments(name: str, case: Case) -> tuple[int, ...]:
    """Of the function `name`."""
    fitting = case.memory_gb, case.parameters, case.bits, case.per_token
    return {"bytes_per_token": case.sizes, "longest_context": fitting, "most_requests": (*fitting, case.context)}[name]


def facts(seed: int) -> dict[str, Any]:
    """The learner's own model, device and requests."""
    case = own_case(seed)
    named = zip(("layers", "heads", "kv_heads", "d_head"), case.sizes, strict=False)
    return {"model": case.model, "device": "A10", "memory_gb": case.memory_gb, "parameters": case.parameters,
            "context": case.context, **dict(named)}  # fmt: skip


def answers(seed: int) -> dict[str, Answer]:
    """The same three numbers, of the learner's own case."""
    found = {}
    for name, find in FUNCTIONS.items():
        results = find(own_case(seed))
        right, near = results.pop(""), dict[str, Any]()
        for id, wrong in results.items():
            if id != "not_whole" and wrong != right and wrong not in near.values():
                near[id] = wrong
        found[f"own_{name}"] = Answer(right, near)
    return found


def check(given: Given) -> None:
    """OracleError: a function is wrong."""
    cases = draw(given.seed)
    for name, find in FUNCTIONS.items():
        expected = [find(case) for case in cases]
        got = [call(given, name, case) for case in cases]
        wrong = [i for i, one in enumerate(got) if not equal(one, expected[i][""])]
        if not wrong:
            continue
        ids, place = explain(got, expected, wrong)
        case, right = cases[place], expected[place][""]
        values = {"name": name, "args": ", ".join(map(str, arguments(name, case))), "got": got[place],
                  "expected": right}  # fmt: skip
        where = {"model": case.model, "device": case.device, "wrong": len(wrong), "count": len(cases)}
        about = Problem("this is {model} on {device}: wrong for {wrong} of {count} models", where)
        raise given.fail(Problem("{name}({args}) gave {got}, expected {expected}", values), *ids[:1], notes=(about,))


def explain(got: list[Any], expected: list[dict[str, Any]], wrong: list[int]) -> tuple[list[str], int]:
    """The mistakes that give these numbers, and the first case that shows one. A second mistake is common where the
    weights do not fit, so that the cases in which they fit are looked at by themselves if no mistake gives all."""
    fitting = [i for i, one in enumerate(expected) if one[""]]
    for chosen in (range(len(got)), fitting):
        ids = [id for id in expected[0] if id and all(equal(got[i], expected[i][id]) for i in chosen)]
        if ids and (shown := [i for i in wrong if i in chosen]):
            return ids, shown[0]
    return [], wrong[0]


def call(given: Given, name: str, case: Case) -> int | float:
    """The number that a function gives. UnreadableError: it gives none."""
    got = given.subject.call(name, *arguments(name, case))
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise UnreadableError("{name} gave {got}, expected a number", name=name, got=type(got).__name__)
    return got


def equal(got: float, expected: float) -> bool:
    """Whether they are the same number; of one that is not whole, to rounding."""
    return bool(got == expected or (isinstance(expected, float) and abs(got - expected) < 1e-9 * expected))
