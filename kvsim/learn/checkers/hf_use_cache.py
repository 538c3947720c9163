"""14: generation with a model of transformers, with its cache and without. Its weights are those of the independent
decoder, which says what must come; hooks tell what each call fed, and on how many cached rows."""

import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from kvsim.learn.answers import Answer
from kvsim.learn.checking import Given
from kvsim.learn.subject import Functions, Local, Weights
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import Problem, UnreadableError, max_abs, to_host
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.verdict.error import OracleError

SECONDS = 90.0  # the import of transformers takes most of it
NEEDED = ("torch", "transformers")
GENERATE, PROMPT, NEW = "generate", 5, 6
SIZES: dict[str, Any] = {"heads": 2, "kv_heads": 2, "context": 32}
MARGIN = 0.1  # by which the most likely token is ahead, so that rounding decides none
CACHES = ("past_key_values", "cache")  # what versions of transformers call the argument
CLOSE = 1e-3  # of the largest logit: far above the rounding of float32


class Call(NamedTuple):
    """One call of the model: the tokens fed, how many were cached before, the position of the first (None: left to the
    model), rows of K projected in layer 0, and logits [T, V]."""

    fed: list[int]
    cached: int
    position: int | None
    rows: int
    logits: Any


def missing() -> Problem | None:
    """Why the exercise is skipped here."""
    if all(find_spec(name) is not None for name in NEEDED):
        return None
    return Problem("needs torch and transformers: pip install torch transformers", {})


def sizes(seed: int) -> tuple[int, int]:
    """Tokens of the prompt, and new ones, of the prediction."""
    generator = np.random.default_rng(seed)
    return int(generator.integers(20, 60)), int(generator.integers(10, 30))


def facts(seed: int) -> dict[str, Any]:
    """The sizes of the prediction."""
    prompt, new = sizes(seed)
    return {"prompt": prompt, "new": new}


def rows_of(prompt: int, new: int, cached: bool) -> int:
    """Rows of K that one layer projects: the last new token is not fed."""
    return prompt + new - 1 if cached else sum(range(prompt, prompt + new))


def answers(seed: int) -> dict[str, Answer]:
    """Rows of K that one layer projects in a run with a cache and in one without."""
    prompt, new = sizes(seed)
    with_cache, without = rows_of(prompt, new, True), rows_of(prompt, new, False)
    return {
        "rows_with_cache": Answer(with_cache, {"last_token_fed": with_cache + 1, "only_new_tokens": new,
                                               "all_rows_again": without}),
        "rows_without_cache": Answer(without, {"last_token_fed": without + prompt + new, "only_new_rows": with_cache,
                                               "prompt_each_time": prompt * new}),
    }  # fmt: skip


def check(given: Given) -> None:
    """OracleError: other tokens come, or the cache is not used, or used where it must not be."""
    weights = make_weights(**SIZES, seed=given.seed)
    prompt, expected, logits = choose_prompt(weights, given.seed)
    for use_cache in (True, False):
        run = Run(given, use_cache, prompt, expected, logits)
        run.look_at_calls()
        run.look_at_result()


def choose_prompt(weights: ModelWeights, seed: int) -> tuple[list[int], list[int], Any]:
    """A prompt, the tokens that follow it, and the logits [prompt + new - 1, V] that say so."""
    generator = np.random.default_rng((seed, 14))
    while True:
        decoder = Decoder(weights.config.to_config(), weights.to_weights())
        prompt = generator.permutation(weights.config.vocab)[:PROMPT].tolist()
        rows, new, margin = [decoder.forward(prompt)], [], np.inf
        for _ in range(NEW):
            second, first = np.sort(rows[-1][-1])[-2:]
            margin = min(margin, first - second)
            new.append(int(rows[-1][-1].argmax()))
            rows.append(decoder.forward(new[-1:]))
        if margin > MARGIN and new[0] != int(rows[0][0].argmax()):
            return prompt, new, np.concatenate(rows[:-1])


class Run:
    """What the learner's code gave in one run, and the calls of the model that it made."""

    def __init__(self, given: Given, use_cache: bool, prompt: list[int], expected: list[int], logits: Any) -> None:
        self.given, self.use_cache, self.prompt, self.expected, self.logits = (
            given, use_cache, prompt, expected, logits)  # fmt: skip
        self.calls: list[Call] = []
        weights, record = Weights(**SIZES, seed=given.seed), Functions(record=self.record)
        model = Local(f"{__name__}:make_model", weights, record, given.subject.dtype)
        self.result = given.subject.call(GENERATE, model, list(prompt), NEW, use_cache)

    def record(self, fed: Any, cached: Any, position: Any, rows: Any, logits: Any) -> None:
        """A call of the model, told by its hooks."""
        self.calls.append(Call(fed, cached, position, rows, to_host(logits)[0]))

    def fail(self, problem: Problem, *ids: str) -> OracleError:
        mode = {"mode": f"use_cache={self.use_cache}", **problem.values}
        return self.given.fail(problem._replace(values=mode), *ids)

    def look_at_calls(self) -> None:
        """OracleError: a call feeds other tokens than it must, or with another cache."""
        needed = rows_of(len(self.prompt), NEW, self.use_cache)
        projected = sum(call.rows for call in self.calls)
        if not self.calls:
            raise self.fail(Problem("{mode}: the model was not called", {}))
        for number, call in enumerate(self.calls[:NEW], start=1):
            self.look_at_call(number, call)
        values = {"got": projected, "needed": needed}
        if len(self.calls) > NEW and self.calls[NEW].fed[-1:] == self.expected[-1:]:
            raise self.fail(Problem("{mode}: the model is called {got} times for {needed} new tokens",
                                    {"got": len(self.calls), "needed": NEW}), "one_call_too_many")  # fmt: skip
        if self.use_cache and projected > needed:
            raise self.fail(Problem("{mode}: tokens right, nothing saved: {got} rows of K projected, {needed} needed",
                                    values), "nothing_saved_by_cache")  # fmt: skip
        if not self.use_cache and projected < needed:
            raise self.fail(Problem("{mode}: {got} rows of K projected, without a cache it takes {needed}", values),
                            "cache_not_off")  # fmt: skip

    def look_at_call(self, number: int, call: Call) -> None:
        """OracleError: a call does not give the logits of a text without a cache."""
        seen = call.cached + len(call.fed)
        values = {"call": number, "fed": len(call.fed), "cached": call.cached, "total": len(self.prompt) + number - 1}
        told = Problem("{mode}, call {call}: tokens fed {fed}, cached {cached}, in the whole text {total}", values)
        if seen > values["total"] and call.cached:
            raise self.fail(told, "all_ids_fed_again")
        if seen < values["total"] and number > 1:
            raise self.fail(told, *self.name_short(call))
        if call.position not in (None, call.cached):
            values |= {"position": call.position}
            raise self.fail(
                Problem("{mode}, call {call}: position {position} given, with {cached} tokens cached", values),
                *(["rope_pos_restarts_at_0"] if call.position == 0 else []),
            )  # fmt: skip

    def name_short(self, call: Call) -> list[str]:
        """The mistake of a call that sees less than the text."""
        if call.cached:
            return []
        if call.fed == self.prompt:
            return ["new_tokens_not_fed"]
        return ["new_cache_each_step" if self.use_cache else "newest_alone"] if len(call.fed) == 1 else []

    def look_at_result(self) -> None:
        """OracleError: other tokens than those of the model without a cache."""
        got = self.result.tolist() if isinstance(self.result, np.ndarray) else self.result
        if isinstance(got, list) and len(got) == 1 and isinstance(got[0], list):
            got = got[0]
        if not isinstance(got, list) or not all(type(one) is int for one in got):
            raise UnreadableError("{name} gave {got}, expected a list of {count} token ids", name=GENERATE,
                                  got=repr(self.result)[:60], count=NEW)  # fmt: skip
        values = {"got": len(got), "expected": NEW}
        if len(got) != NEW:
            with_prompt = got[: len(self.prompt)] == self.prompt
            raise self.fail(Problem("{mode}: {got} token ids came, {expected} new ones were asked for", values),
                            *(["prompt_returned"] if with_prompt else []))  # fmt: skip
        if got != self.expected:
            number = next(i for i, (a, b) in enumerate(zip(got, self.expected, strict=True)) if a != b)
            first = number < len(self.calls) and got[number] == int(self.calls[number].logits[0].argmax())
            values = {"number": number + 1, "got": got[number], "expected": self.expected[number]}
            raise self.fail(Problem("{mode}: new token {number} is {got}, the most likely one is {expected}", values),
                            *(["first_position_taken"] if first else []))  # fmt: skip
        for number, call in enumerate(self.calls[:NEW]):
            off = max_abs(call.logits[-1] - self.logits[len(self.prompt) + number - 1])
            if not off <= CLOSE * max_abs(self.logits):
                raise self.fail(Problem("{mode}, call {call}: the tokens are right by chance: logits are off by {off}",
                                        {"call": number + 1, "off": f"{off:.2g}"}))  # fmt: skip


# In the learner's process


def make_model(weights: ModelWeights, told: Any, dtype: str) -> Any:
    """transformers' Llama with these weights; `told.record` is called after each of its calls. Newer versions warn that
    an argument has another name: not the learner's mistake."""
    import torch

    hf: Any = import_module("transformers")
    hf.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, message="`past_key_values`")

    c = weights.config
    config = hf.LlamaConfig(
        vocab_size=c.vocab, hidden_size=c.d_model, intermediate_size=c.d_ff, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.d_head, rms_norm_eps=c.norm_eps,
        rope_theta=c.rope_theta, max_position_embeddings=c.context, tie_word_embeddings=False, eos_token_id=None,
        bos_token_id=None,
    )  # fmt: skip
    model = hf.LlamaForCausalLM(config).eval().to(getattr(torch, dtype))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    model.generate = refuse
    counted = {"rows": 0}
    model.model.layers[0].self_attn.k_proj.register_forward_hook(partial(count_rows, counted))
    model.register_forward_pre_hook(partial(note_inputs, counted), with_kwargs=True)
    model.register_forward_hook(partial(tell, counted, told))
    return model


def refuse(*_: Any, **__: Any) -> None:
    raise ValueError("model.generate has this loop in it: write it yourself, with model(...)")


def count_rows(counted: dict[str, Any], _: Any, __: Any, output: Any) -> None:
    counted["rows"] += output.shape[1]


def note_inputs(counted: dict[str, Any], _: Any, args: Any, named: dict[str, Any]) -> None:
    """What a call of the model is given."""
    ids, cache, positions = (args[0] if args else named["input_ids"]), None, None
    for name in CACHES:
        cache = named.get(name) if cache is None else cache
    if named.get("position_ids") is not None:
        positions = int(named["position_ids"].reshape(-1)[0])
    counted |= {"rows": 0, "fed": ids.reshape(-1).tolist(), "position": positions,
                "cached": 0 if cache is None else int(cache.get_seq_length())}  # fmt: skip


def tell(counted: dict[str, Any], told: Any, _: Any, __: Any, output: Any) -> None:
    """The record of a call."""
    told.record(counted["fed"], counted["cached"], counted["position"], counted["rows"], output.logits.detach()[0])
