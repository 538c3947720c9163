"""The check of a quantiser by itself: no bound on logits distinguishes rounding from truncation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.checks import check_flag, check_function, check_whole, is_name
from kvsim.errors import UsageError, shortened
from kvsim.testing.bank import find_mistake
from kvsim.testing.independent.rounding import FORMATS, format_name, rounding
from kvsim.testing.subject.attention import read_copy
from kvsim.testing.subject.calls import Problem, UnreadableError, call, to_host
from kvsim.testing.subject.limits import SECONDS, limited
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.failure import Failure

AXES = {"channel": 0, "token": 1}
ONE_SCALE = "one scale"  # the case in which all groups have the same
CASES = {
    "normal": Problem("random rows", {}), "outliers": Problem("rows with outliers", {}),
    "zeros": Problem("rows with zeros", {}), "all positive": Problem("rows of positive numbers", {}),
    ONE_SCALE: Problem("rows whose groups all have one scale", {}),
}  # fmt: skip
MOST_BITS = 32  # of a code
LARGEST_GROUP = 4096  # cases have twice as many tokens and channels
TINY = 1e-12  # allowed beside rounding: sums of float64


class Scheme(NamedTuple):
    """How rows are quantised: as `assert_quantiser` takes it. `eps`: of the format in which scales are stored."""

    bits: int
    axis: str
    group: int
    symmetric: bool
    eps: float

    def steps(self, x: Any) -> tuple[Any, Any]:
        """For each number of `x` [tokens, channels] the step between its codes, and max|x| of its group.

        Groups run over tokens if the axis is "channel" (a scale for each channel), over channels if it is "token".
        """
        moved = np.moveaxis(x, AXES[self.axis], -1)
        grouped = moved.reshape(*moved.shape[:-1], -1, self.group)
        top = np.abs(grouped).max(axis=-1, keepdims=True)
        if self.symmetric:
            step = top / (2 ** (self.bits - 1) - 1)
        else:
            step = (grouped.max(axis=-1, keepdims=True) - grouped.min(axis=-1, keepdims=True)) / (2**self.bits - 1)
        step, top = (
            np.moveaxis(np.broadcast_to(part, grouped.shape).reshape(moved.shape), -1, AXES[self.axis])
            for part in (step, top)
        )
        return step, top

    def fits(self, x: Any, got: Any) -> bool:
        """Whether what came back is whole steps of the groups of `x`, within half a step of it (symmetric schemes)."""
        step, top = self.steps(x)
        codes = got / np.where(step == 0, 1.0, step)
        off = np.abs(codes - np.rint(codes)) * step > self.slack(top)
        return self.symmetric and not off.any() and not (np.abs(got - x) > step / 2 + self.slack(top)).any()

    def slack(self, top: Any) -> Any:
        """What the rounding of a scale to its format may move a number of a group with this max|x|."""
        return self.eps * top + TINY


class Quantiser(NamedTuple):
    """The code under test. `array` converts a NumPy array to its own kind."""

    quantise: Callable[[Any], Any]
    dequantise: Callable[[Any], Any]
    array: Callable[[Any], Any] | None = None

    def read_back(self, x: Any) -> Any:
        """The rows, quantised and dequantised, in float64. UnreadableError: that cannot be done."""
        given = x.copy() if self.array is None else call(self.array, x.copy())
        before = read_copy(given)
        packed = call(self.quantise, given)
        if before is not None and not np.array_equal(read_copy(given), before):
            raise UnreadableError("quantise changed its input")
        return to_host(call(self.dequantise, packed))[0]


def make_cases(group: int, axis: str, seed: int) -> dict[str, Any]:
    """Rows [tokens, channels] on which the known mistakes give different results; both sizes are multiples of the
    group."""
    generator = np.random.default_rng(seed)
    plain = generator.standard_normal((2 * group, 2 * group))
    outliers = plain.copy()
    outliers[:, 3 % group] *= 50.0
    outliers[1] *= 20.0
    zeros = plain.copy()
    zeros[:group] = 0.0
    zeros[:, 0] = 0.0
    cases = {"normal": plain, "outliers": outliers, "zeros": zeros, "all positive": np.abs(plain) + 1.0}
    if group > 1:
        cases[ONE_SCALE] = same_extremes(generator, group, axis)
    return cases


def same_extremes(generator: Any, group: int, axis: str) -> Any:
    """Rows of at least 64 tokens and channels, in which all groups have the largest number 3 and the smallest -3, and
    so one scale: together they may hold as many different values as there are codes."""
    size = max(2 * group, -(-64 // group) * group)
    x = generator.uniform(-3.0, 3.0, (size, size))
    groups = np.moveaxis(x, AXES[axis], -1).reshape(size, -1, group).copy()
    groups[..., 0], groups[..., 1] = 3.0, -3.0
    return np.moveaxis(groups.reshape(size, size), -1, AXES[axis])


def name_mistake(x: Any, got: Any, scheme: Scheme) -> str | None:
    """The id of the mistake that explains the result: no quantisation, truncation (towards zero, or down), scales along
    the other axis, or for groups of another size. None: none of these."""
    if any(np.array_equal(rounding(name)(x), got) for name in ("float64", "float32", "float16", "bfloat16")):
        return "quantised_not_at_all"
    length = x.shape[AXES[scheme.axis]]
    sizes = {1, scheme.group // 2, 2 * scheme.group, length} - {0, scheme.group}
    if any(scheme._replace(group=size).fits(x, got) for size in sizes if not length % size):
        return "quantised_wrong_group"
    step, top = scheme.steps(x)
    room = scheme.slack(top)
    lost = x - got
    if (np.abs(lost) <= step + room).all() and ((lost * np.sign(x) >= -room).all() or (lost >= -room).all()):
        return "quantised_truncates"
    other = scheme._replace(axis="token" if scheme.axis == "channel" else "channel")
    step, top = other.steps(x)
    return "quantised_scale_axis" if (np.abs(lost) <= step / 2 + other.slack(top)).all() else None


def assert_quantiser(
    quantise: Callable[[Any], Any], dequantise: Callable[[Any], Any], *, bits: int = 8, axis: str = "channel",
    group: int = 64, symmetric: bool = True, scale_dtype: str = "float16", array: Callable[[Any], Any] | None = None,
    seed: int = 0, seconds: float = SECONDS,
) -> None:  # fmt: skip
    """Check that rows [tokens, channels] come back with an error of at most half a step everywhere, zero rows and
    outliers included, that quantising them again changes nothing, and that there are no more different values than
    `bits` bits have.

    `axis` "channel": each channel has a scale for every `group` tokens; "token": each token for every `group`
    channels. A step is the group's max|x| / (2^(bits-1) - 1), or (max - min) / (2^bits - 1) if not `symmetric`.
    `scale_dtype`: the format in which scales are stored; its rounding is allowed for. `array` converts the rows, NumPy
    arrays, to the quantiser's own kind. A call may take `seconds`.

    OracleError: the quantiser is wrong; the mistake is named if it is known. UsageError: an unknown axis or format, or
    sizes that are too small.
    """
    __tracebackhide__ = True
    if not is_name(axis, AXES):
        raise UsageError("unknown axis {axis}: use one of {known}", axis=shortened(axis), known=", ".join(AXES))
    bits, group = check_whole("bits", bits, 2, MOST_BITS), check_whole("group", group, 1, LARGEST_GROUP)
    seed, symmetric = check_whole("seed", seed, 0), check_flag("symmetric", symmetric)
    quantiser = Quantiser(
        limited(quantise, seconds, "quantise"), limited(dequantise, seconds, "dequantise"),
        None if array is None else check_function("array", array),
    )  # fmt: skip
    scheme = Scheme(bits, axis, group, symmetric, FORMATS[format_name(scale_dtype)].eps)
    for case, x in make_cases(group, axis, seed).items():
        if (failure := find_failure(quantiser, scheme, case, x)) is not None:
            raise OracleError(failure)


def find_failure(quantiser: Quantiser, scheme: Scheme, case: str, x: Any) -> Failure | None:
    """What is wrong with the rows `x` read back, or read back twice."""
    try:
        back = quantiser.read_back(x)
    except UnreadableError as error:
        return Failure(headlines=(error.problem,), compared=False)
    if back.shape != x.shape:
        shapes = {"case": CASES[case], "got": list(back.shape), "expected": list(x.shape)}
        other = Problem("{case}: the result has shape {got}, expected {expected}", shapes)
        return Failure(headlines=(other,), compared=False)
    if not np.isfinite(back).all():
        blank = Problem("{case}: the result holds NaN or infinity", {"case": CASES[case]})
        return Failure(headlines=(blank,), compared=False)
    if (problem := find_error(scheme, case, x, back) or find_excess(scheme, case, back)) is not None:
        id = name_mistake(x, back, scheme)
        return Failure(headlines=(problem,), named=() if id is None else (find_mistake(id),))
    try:
        again = quantiser.read_back(back)
    except UnreadableError as error:
        return Failure(headlines=(error.problem,), compared=False)
    drift = find_drift(scheme, case, x, (back, again))
    return None if drift is None else Failure(headlines=(drift,), named=())


def find_error(scheme: Scheme, case: str, x: Any, back: Any) -> Problem | None:
    """The first number that is further than half a step from what was quantised."""
    step, top = scheme.steps(x)
    lost = np.abs(back - x)
    wrong = np.argwhere(lost > step / 2 + scheme.slack(top))
    if not len(wrong):
        return None
    place = tuple(int(i) for i in wrong[0])
    if step[place] == 0:
        return Problem("{case}: zeros come back as {got}", {"case": CASES[case], "got": f"{back[place]:.3g}"})
    steps = f"{lost[place] / step[place]:.3f}"
    return Problem("{case}: the error is {got} steps at {place}, at most {allowed} is rounding",
                   {"case": CASES[case], "got": steps, "place": list(place), "allowed": "0.5"})  # fmt: skip


def find_excess(scheme: Scheme, case: str, back: Any) -> Problem | None:
    """More different values than codes, of groups that have one scale."""
    count = len(np.unique(back))
    if case != ONE_SCALE or count <= 2**scheme.bits:
        return None
    return Problem(
        "{case}: {count} different values come back, which takes {needed} bits: {bits} bits have {allowed}",
        {"case": CASES[case], "count": count, "needed": (count - 1).bit_length(), "bits": scheme.bits,
         "allowed": 2**scheme.bits},
    )  # fmt: skip


def find_drift(scheme: Scheme, case: str, x: Any, runs: tuple[Any, Any]) -> Problem | None:
    """The first number that another quantisation changes by more than the rounding of its scale. `runs`: the rows `x`
    after one quantisation, and after two."""
    step, top = scheme.steps(x)
    moved = np.abs(runs[1] - runs[0])
    drifted = np.argwhere(moved > 2 * scheme.eps * top + TINY)
    if not len(drifted):
        return None
    place = tuple(int(i) for i in drifted[0])
    steps = moved[place] / max(step[place], 1e-300)
    return Problem("{case}: quantising what was read back changes it by {got} steps",
                   {"case": CASES[case], "got": f"{steps:.3g}"})  # fmt: skip
