"""04: a KV cache, and the keys and values of all tokens by way of it."""

from typing import Any

import numpy as np

from kvsim.learn.answers import Answer
from kvsim.learn.checking import Given
from kvsim.learn.subject import Subject, Thing
from kvsim.testing.checks.decoders import assert_split_invariant
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.calls import Problem, ShapeError, UnreadableError, equal, to_host
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.facts import UNKNOWN
from kvsim.weights import Attention

FEED = [1] * 7  # of which the cost is counted
ENTRY = "keys_and_values"
BATCH = 2
MOST_ROWS = 4096
AXES = ("batch", "heads", "tokens", "d_head")
SAME = 1e-5  # two rows of different tokens differ by much more


def answers(seed: int) -> dict[str, Answer]:
    """The K and V rows that are projected for 7 tokens of one layer, one by one."""
    n = len(FEED)
    with_cache, without = 2 * n, n * (n + 1)
    return {
        "rows_without_cache": Answer(without, {"one_row_for_two": without // 2, "only_new_rows": with_cache,
                                               "squares_summed": n * (n + 1) * (2 * n + 1) // 6}),
        "rows_with_cache": Answer(with_cache, {"one_row_for_two": n, "all_rows_again": without}),
    }  # fmt: skip


def check(given: Given) -> None:
    """OracleError: the cache is wrong, or saves nothing."""
    weights = make_weights(rope="learned", seed=given.seed)
    decoders: list[WithCache] = []

    def make() -> WithCache:
        decoders.append(WithCache(weights, given.subject))
        return decoders[-1]

    def step(decoder: WithCache, ids: list[int]) -> Any:
        return decoder.forward(ids).astype(given.subject.dtype)

    try:
        assert_split_invariant(make, step, weights, clear=False, seed=given.seed, dtype=given.subject.dtype)
    except OracleError as error:
        if any(one.turned for one in decoders):
            raise given.fail(error.failure.headlines[0], "concat_wrong_axis", compared=False) from None
        if any(one.swapped for one in decoders) and error.facts.get("diagnosis") == [UNKNOWN]:
            raise given.fail(Problem("{name} gave the values where the keys belong", {"name": ENTRY}),
                             "k_and_v_swapped") from None  # fmt: skip
        again = [problem for one in decoders for problem in one.again]
        if again and error.facts.get("diagnosis") == [UNKNOWN]:
            raise given.fail(again[0], "stored_again") from None
        raise
    if any(one.mixed for one in decoders):
        raise given.fail(Problem("the second text of the batch has wrong rows, the first has right ones", {}),
                         "batch_mixed")  # fmt: skip
    check_cost(given, weights)


def check_cost(given: Given, weights: ModelWeights) -> None:
    """OracleError: rows are projected that the cache holds."""
    decoder = WithCache(weights, given.subject)
    for token, count in enumerate(FEED):
        decoder.forward([token] * count)
    needed = given.exercise.cost["rows"]
    if decoder.projected == needed:
        return
    values = {"got": decoder.projected, "needed": needed}
    if decoder.projected < needed:
        raise given.fail(Problem("{got} K and V rows projected, {needed} needed: project must be called", values))
    raise given.fail(Problem("values right, nothing saved: {got} K and V rows projected, {needed} needed", values)
                     if decoder.projected == needed * (len(FEED) + 1) // 2 else
                     Problem("values right, too much work: {got} K and V rows projected, {needed} needed", values),
                     "nothing_saved", rows=decoder.projected)  # fmt: skip


class WithCache(Decoder):
    """The independent decoder, whose keys and values come from the learner's function. The batch is the text and a
    second one, made of it. `projected`: K and V rows that layer 0 was asked for."""

    def __init__(self, weights: ModelWeights, subject: Subject) -> None:
        self.subject = subject
        self.cache: Thing = new_cache(subject)
        self.hidden: dict[int, list[Any]] = {}  # by layer, [C] for each token
        self.projected = 0
        self.swapped = self.mixed = self.turned = False
        self.again: list[Problem] = []  # with rows of which the last ones are all tokens'
        super().__init__(weights.config.to_config(), weights.to_weights())

    def attention(self, layer: int, w: Attention, x: list[Any], start: int) -> list[Any]:
        rows = self.hidden.setdefault(layer, [])
        rows += x
        q_THK = np.stack([self.project(w.query, row) for row in x])
        k_SGK, v_SGK, key_pos = self.ask(layer, w, np.stack(rows), start)
        query_pos = np.arange(start, start + len(x))
        inputs = AttentionInputs(q_THK, k_SGK, v_SGK, query_pos, key_pos, None, self.layer_scale(layer))
        return [self.linear(row, w.output) for row in self.attend(inputs)]

    def ask(self, layer: int, w: Attention, x_SC: Any, start: int) -> tuple[Any, Any, Any]:
        """The keys and values [S, G, K] of the first text, and their positions. ShapeError."""
        x_BSC = np.stack([x_SC, x_SC[:, ::-1]])
        true = [self.rows_of(w, x_BSC)[i] for i in (0, 1)]

        def project(number: int, rows: Any) -> tuple[Any, Any]:
            rows = np.asarray(to_host(rows)[0])
            if number != layer or rows.ndim != 3 or rows.shape[2] != x_BSC.shape[2]:
                got = f"layer {number}, rows {list(rows.shape)}"
                raise ValueError(f"project takes layer {layer}, rows [batch, tokens, {x_BSC.shape[2]}], got {got}")
            if layer == 0:
                self.projected += 2 * rows.shape[1]
            return self.rows_of(w, rows)

        got = self.subject.call(ENTRY, self.cache, layer, x_BSC, start, project)
        keys, values = self.read(got, true[0].shape)
        self.compare((keys, values), true)
        return keys[0].transpose(1, 0, 2), values[0].transpose(1, 0, 2), positions_of(keys[0], true[0][0], start)

    def rows_of(self, w: Attention, x_BTC: Any) -> tuple[Any, Any]:
        """Keys and values [B, G, T, K] of hidden states."""
        return tuple(
            np.stack([np.stack([self.project(one, row) for row in rows], axis=1) for rows in x_BTC])
            for one in (w.key, w.value)
        )  # type: ignore[return-value]

    def read(self, got: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Keys and values as arrays. ShapeError, with the axes named, unless only the number of tokens differs."""
        try:
            keys, values = (to_host(np.asarray(x) if isinstance(x, list) else x)[0] for x in got)
        except (TypeError, ValueError) as error:
            raise UnreadableError("update gave {got}, expected keys and values", got=type(got).__name__) from error
        for x in (keys, values):
            b, g, _, k = shape
            fits = x.ndim == len(AXES) and (x.shape[0], x.shape[1], x.shape[3]) == (b, g, k)
            self.turned |= not fits and x.size == b * g * k * shape[2]  # every number is there, along another axis
            if not fits or x.shape != keys.shape or not 0 < x.shape[2] <= MOST_ROWS:
                problem = misshapen(x, shape)
                raise ShapeError(problem.template, **problem.values)
        return keys, values

    def compare(self, got: tuple[Any, Any], true: list[Any]) -> None:
        """Notes whether keys and values are swapped, whether only the second text is wrong, and whether all rows come
        behind those that were stored before."""
        right = [equal(x, y, SAME) for x, y in zip(got, true, strict=True)]
        if got[0].shape[2] > (count := true[0].shape[2]) and equal(got[0][:, :, -count:], true[0], SAME):
            self.again.append(misshapen(got[0], true[0].shape))
        self.swapped |= not any(right) and equal(got[0], true[1], SAME) and equal(got[1], true[0], SAME)
        first = all(equal(x[0], y[0], SAME) for x, y in zip(got, true, strict=True))
        self.mixed |= first and not all(right)


def misshapen(x: Any, shape: tuple[int, ...]) -> Problem:
    """Keys or values of another shape, with the axes named."""
    return Problem("{name} gave an array of shape {got}, expected ({axes}) = {expected}",
                   {"name": ENTRY, "got": list(x.shape), "axes": ", ".join(AXES), "expected": list(shape)})  # fmt: skip


def new_cache(subject: Subject) -> Thing:
    """A cache of the learner's. UnreadableError: the class gives none."""
    made = subject.call("KVCache")
    if not isinstance(made, Thing):
        raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name="KVCache",
                              got=type(made).__name__)  # fmt: skip
    return made


def positions_of(keys_GSK: Any, true_GSK: Any, start: int) -> Any:
    """The positions of the rows: where fewer come than there are tokens, the last one is known by its content."""
    count, total = keys_GSK.shape[1], true_GSK.shape[1]
    stop = total
    if count < total:
        same = np.abs(true_GSK - keys_GSK[:, -1:]).max(axis=(0, 2)) <= SAME
        stop = int(np.flatnonzero(same)[-1]) + 1 if same.any() else total
    return np.arange(stop - count, stop)
