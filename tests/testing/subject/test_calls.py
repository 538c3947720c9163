"""Calls of the code under test: arrays on the host, errors as problems, and equality to within a bound."""

import numpy as np
import pytest

from kvsim.testing.subject.calls import (
    CallTimeoutError,
    UnreadableError,
    call,
    describe_error,
    equal,
    first_nonfinite,
    max_abs,
    run_text,
    to_host,
)
from kvsim.testing.subject.limits import limited


def test_arrays_come_as_copies_in_float64():
    x = np.ones(3, np.float32)
    got, dtype = to_host(x)
    assert (got.dtype, dtype) == (np.dtype("float64"), "float32")
    x[0] = 2.0
    assert got[0] == 1.0
    assert to_host([0.5, 1.0])[1] == "float64"
    with pytest.raises(UnreadableError):
        to_host(np.arange(3))


def test_a_call_that_fails_is_a_problem():
    with pytest.raises(UnreadableError) as raised:
        call(lambda x: 1 // 0, 3)
    assert raised.value.problem.values["raised"] is ZeroDivisionError
    assert not raised.value.problem.fatal
    with pytest.raises(UnreadableError) as wrong:
        call(lambda x: x, 1, 2, window=3)
    assert wrong.value.problem.template.startswith("{name} cannot be called with {count} arguments{words}")
    assert (wrong.value.problem.values["count"], wrong.value.problem.values["words"]) == (2, ", window=")

    def endless():
        while True:
            pass

    with pytest.raises(CallTimeoutError) as late:
        call(limited(endless, 0.1))
    assert late.value.problem.fatal


def test_a_problem_has_the_feed_and_the_step_it_occurred_in():
    def step(state, ids):
        state.extend(ids)
        return np.zeros((len(ids), 5 if len(state) < 3 else 4))

    done = run_text(list, step, [[1, 2], [3], [4]], 5)
    assert done.logits is None
    assert (done.problem.values["feed"], done.problem.values["step"], done.problem.fatal) == ([2, 1, 1], 2, True)
    assert run_text(list, lambda s, ids: np.zeros((len(ids), 5)), [[1, 2], [3]], 5).logits.shape == (3, 5)


def test_equality_places_and_sizes():
    one = np.array([[1.0, -2.0]])
    assert equal(one, one + 1e-7, 1e-6)
    assert not equal(one, one + 1e-5, 1e-6)
    assert not equal(one, one[0], 1.0)
    assert first_nonfinite(one) is None
    assert first_nonfinite(np.array([[0.0, np.inf]])) == (0, 1)
    assert max_abs(np.array([np.nan, -3.0, 2.0])) == 3.0
    assert np.isnan(max_abs(np.array([np.nan])))


def test_an_error_is_described_in_one_line():
    text = describe_error(ValueError("one\n  two" * 200))
    assert text.startswith("ValueError: one two")
    assert len(text) == 300
