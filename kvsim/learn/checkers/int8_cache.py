"""12: a cache in 8 bits: the quantiser by itself first, then the groups of the cache."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.caches.base import Shape
from kvsim.caches.quantised.options import Options
from kvsim.costs.bytes.memory import Format, Rows, measure_quantised
from kvsim.learn.answers import Answer
from kvsim.learn.checking import Given
from kvsim.learn.subject import Thing
from kvsim.testing.checks.quantisers import Scheme, assert_quantiser, name_mistake
from kvsim.testing.independent.rounding import FORMATS
from kvsim.testing.subject.calls import Problem, ShapeError, UnreadableError, to_host
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.facts import UNKNOWN

BITS, GROUP, CHANNELS = 8, 64, 64  # of the bytes that are predicted, and of the quantiser by itself
CACHE, CACHE_GROUP, D_HEAD = "Int8Cache", 4, 4
CHUNKS = (3, 1, 8, 2, 3)  # rows appended: one group of two parts, two groups at once, one group and a rest
SIZES = (1.0, 5.0, 0.5, 3.0, 1.0)  # of the groups, so that a common scale is another one
AXIS = {"channel": 0, "token": 1}  # along which the numbers of one scale lie
ROOM = 0.05  # by which a scale may differ from max|x| / 127
NOT_AT_ALL = "quantised_not_at_all"


def answers(seed: int) -> dict[str, Answer]:
    """The bytes of 64 keys and 64 values of 64 channels, in float16 and in int8 with its scales."""
    rows = Rows(1, Shape(1, CHANNELS, CHANNELS))
    context = GROUP + Options().residual
    packed = measure_quantised((rows,), Format("int8", False, 2), context, 0, 1)
    plain, small = GROUP * rows.numbers * 2, packed.payload + packed.scales
    return {
        "bytes_float16": Answer(plain, {"keys_alone": plain // 2, "bits_for_bytes": plain * 8}),
        "bytes_int8": Answer(small, {"keys_alone": small // 2, "scales_forgotten": packed.payload}),
    }


def check(given: Given) -> None:
    """OracleError: the quantiser or the cache is wrong."""
    for axis in AXIS:
        check_quantiser(given, axis)
    for keys in (True, False):
        check_cache(given, keys)


def check_quantiser(given: Given, axis: str) -> None:
    """OracleError: more is lost than rounding loses, or codes are no bytes."""
    watched = Watched(given, AXIS[axis])
    try:
        assert_quantiser(watched.quantise, watched.dequantise, axis=axis, group=GROUP, seed=given.seed)
    except OracleError as error:
        if watched.error is not None:
            raise watched.error from None
        if error.facts.get("diagnosis") == [UNKNOWN] and (id := watched.name_lost()) is not None:
            raise given.fail(error.failure.headlines[0], id) from None
        raise


class Watched:
    """The learner's quantise and dequantise on rows of several groups. `axis`: that a call is given."""

    def __init__(self, given: Given, axis: int) -> None:
        self.given, self.axis = given, axis
        self.error: OracleError | None = None
        self.x = self.back = np.zeros((0, 0))
        self.ratios: list[Any] = []  # of the scales that came to those that max|x| gives

    def quantise(self, x: Any) -> list[Any]:
        """Codes and scales of each group."""
        self.x = self.back = np.asarray(x)
        self.ratios = []
        return [self.pack(part) for part in np.split(self.x, self.x.shape[self.axis] // GROUP, axis=self.axis)]

    def dequantise(self, packed: Any) -> Any:
        parts = []
        for codes, scales in packed:
            back = array_of(self.given.subject.call("dequantise", codes, scales), "dequantise")
            if back.shape != codes.shape:
                raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}",
                                 name="dequantise", got=list(back.shape), axes="tokens, channels",
                                 expected=list(codes.shape))  # fmt: skip
            parts.append(back)
        self.back = np.concatenate(parts, axis=self.axis)
        return self.back

    def pack(self, x: Any) -> tuple[Any, Any]:
        """Codes and scales of one group. OracleError, also kept as `error`: codes that are no bytes, or another number
        of scales. UnreadableError."""
        got = self.given.subject.call("quantise", x, self.axis)
        if not isinstance(got, list) or len(got) != 2 or not all(isinstance(one, np.ndarray) for one in got):
            raise UnreadableError("{name} gave {got}, expected two arrays: codes and scales", name="quantise",
                                  got=type(got).__name__)  # fmt: skip
        codes, scales = got
        if codes.shape != x.shape:
            raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}", name="quantise",
                             got=list(codes.shape), axes="tokens, channels", expected=list(x.shape))  # fmt: skip
        if codes.dtype != np.int8:
            self.stop(Problem("the codes are {got}, {bytes} bytes each, expected int8: 1 byte each",
                              {"got": codes.dtype.name, "bytes": codes.dtype.itemsize}), "codes_not_int8")  # fmt: skip
        expected = x.shape[1 - self.axis]
        if scales.size != expected:
            id = {1: "one_scale_for_all", x.shape[self.axis]: "quantised_scale_axis"}.get(scales.size)
            shape = {"axis": self.axis, "shape": list(x.shape), "got": scales.size, "expected": expected}
            self.stop(Problem("axis={axis}: {got} scales for numbers of shape {shape}, expected {expected}", shape), id)
        axis = next(name for name, number in AXIS.items() if number == self.axis)
        step = scheme(axis, GROUP).steps(x)[0].max(axis=self.axis)
        self.ratios += (scales.ravel()[step > 0] / step[step > 0]).tolist()
        return codes, scales

    def stop(self, problem: Problem, id: str | None) -> None:
        self.error = self.given.fail(problem, *([id] if id else []))
        raise UnreadableError(problem.template, **problem.values)

    def name_lost(self) -> str | None:
        """What the numbers that lost too much have in common."""
        axis = next(name for name, number in AXIS.items() if number == self.axis)
        step, top = scheme(axis, GROUP).steps(self.x)
        lost = np.abs(self.back - self.x) > step / 2 + scheme(axis, GROUP).slack(top)
        if self.x.shape != self.back.shape or not lost.any():
            return None
        x, back = self.x[lost], self.back[lost]
        if (x < 0).all():
            return "max_without_abs"
        if (x * back < 0).all() and (np.abs(x) >= 0.9 * top[lost]).all():
            return "int8_wraps"
        if min(self.ratios, default=1.0) < 1 - ROOM and (x * back >= 0).all():
            return "outliers_clipped"
        return "scale_too_large" if max(self.ratios, default=1.0) > 1 + ROOM else None


def scheme(axis: str, group: int) -> Scheme:
    return Scheme(BITS, axis, group, True, FORMATS["float16"].eps)


class Part(NamedTuple):
    """Keys or values, and what was read back of them before and after an append of rows start to stop - 1."""

    name: str
    axis: str
    x: Any
    before: Any
    after: Any

    def problem(self, given: Given) -> OracleError | None:
        """What is wrong with the rows."""
        held, done = (len(rows) // CACHE_GROUP * CACHE_GROUP for rows in (self.before, self.after))
        rules = scheme(self.axis, CACHE_GROUP)
        values = {"name": self.name, "first": 0, "last": held - 1, "rows": len(self.after)}
        x, got = self.x[:done], self.after[:done]
        if held and (np.abs(got[:held] - self.before[:held]) > rules.slack(rules.steps(x[:held])[1])).any():
            return given.fail(Problem("rows {first} to {last} of {name} were quantised, and came back with other"
                                      " numbers after the next append", values), "quantised_twice")  # fmt: skip
        if not np.array_equal(self.after[done:], self.x[done : len(self.after)]):
            values |= {"first": done, "last": len(self.after) - 1, "group": CACHE_GROUP}
            return given.fail(Problem("rows {first} to {last} of {name} wait for their group of {group}, and must come"
                                      " back as they were", values), "group_not_waited")  # fmt: skip
        return self.new_groups(given, rules, (held, done))

    def new_groups(self, given: Given, rules: Scheme, span: tuple[int, int]) -> OracleError | None:
        """What is wrong with the rows of groups that have just become whole."""
        x, got = (rows[slice(*span)] for rows in (self.x, self.after))
        if not len(x):
            return None
        step, top = rules.steps(x)
        steps = np.abs(got - x) / step
        id = name_mistake(x, got, rules)
        values = {"name": self.name, "first": span[0], "last": span[1] - 1, "steps": f"{steps.max():.2f}"}
        if id == NOT_AT_ALL:
            return given.fail(Problem("rows {first} to {last} of {name} come back as they were: their group is whole,"
                                      " and must be quantised", values), id)  # fmt: skip
        if (np.abs(got - x) <= step / 2 + rules.slack(top)).all():
            return None
        wrong = Problem("rows {first} to {last} of {name}: the error is up to {steps} steps of the scale, at most 0.5"
                        " is rounding", values)  # fmt: skip
        return given.fail(wrong, *([id] if id else []))


def check_cache(given: Given, keys: bool) -> None:
    """OracleError: keys (or values) come back wrong while rows are appended."""
    name, axis = ("K", "channel") if keys else ("V", "token")
    rows = [make_rows(one, given) for one in AXIS]
    made = given.subject.call(CACHE, CACHE_GROUP)
    if not isinstance(made, Thing):
        raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=CACHE,
                              got=type(made).__name__)  # fmt: skip
    before, start = np.zeros((0, D_HEAD)), 0
    for count in CHUNKS:
        stop = start + count
        made.call("append", *(x[start:stop] for x in rows))
        after = read(made, stop)[0 if keys else 1]
        if (error := Part(name, axis, rows[0 if keys else 1], before, after).problem(given)) is not None:
            raise error
        before, start = after, stop


def make_rows(axis: str, given: Given) -> Any:
    """Rows [S, D] of groups of different sizes, of which no code is decided by a scale's own rounding."""
    count = sum(CHUNKS)
    x = np.random.default_rng((given.seed, AXIS[axis])).standard_normal((count + -count % CACHE_GROUP, D_HEAD))
    uneven = np.array([1.0, 20.0, 1.0, 0.3])  # channels of the keys, tokens of the values
    uneven = uneven if axis == "channel" else np.resize(uneven, len(x))[:, None]
    x *= np.repeat(SIZES, CACHE_GROUP)[: len(x), None] * uneven
    step = scheme(axis, CACHE_GROUP).steps(x)[0]
    codes = x / step
    x = (np.rint(codes) + 0.6 * (codes - np.rint(codes))) * step
    return x[:count].astype(given.subject.dtype).astype(np.float64)


def read(cache: Thing, count: int) -> tuple[Any, Any]:
    """Keys and values [S, D]. UnreadableError."""
    got = cache.call("read")
    if not isinstance(got, list | np.ndarray) or len(got) != 2:
        raise UnreadableError("{name} gave {got}, expected all keys and all values", name="read",
                              got=type(got).__name__)  # fmt: skip
    found = [array_of(one, "read") for one in got]
    for one in found:
        if one.shape != (count, D_HEAD):
            raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}", name="read",
                             got=list(one.shape), axes="tokens, d_head", expected=[count, D_HEAD])  # fmt: skip
    return found[0], found[1]


def array_of(x: Any, name: str) -> Any:
    """The array in float64. UnreadableError: it is none."""
    try:
        return np.asarray(to_host(np.asarray(x) if isinstance(x, list) else x)[0])
    except (TypeError, ValueError) as error:
        raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=name,
                              got=type(x).__name__) from error  # fmt: skip
