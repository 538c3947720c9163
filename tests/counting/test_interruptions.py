"""Calls interrupted within an open ledger. `python -m tests.interruptions` interrupts all lines; here some of each."""

import pytest

from tests.interruptions import counting, threads
from tests.interruptions.injector import InjectedError, Injector
from tests.interruptions.steps import IDS

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # raised in __del__
SUBJECTS = list(counting.list_subjects())


@pytest.mark.parametrize("number", range(len(SUBJECTS)), ids=[s.name.replace(" ", "-") for s in SUBJECTS])
def test_lines_of_a_call(number):
    report = counting.run(SUBJECTS[number], 401, number * 47, error=(KeyboardInterrupt, InjectedError)[number % 2])
    assert not report.wrong, report
    assert report.counts["exact"] > 2


def test_a_scope_that_two_interruptions_left_behind():
    """The scope of layer 1, kept by a Ctrl-C in its `__exit__` and another in that of the call, does not name later
    products."""
    model, _ = counting.make_model(plain=False)
    with model.count() as wanted:
        model(IDS[:3])
    model.ops.here.place = model.ops.root.child(("layers", 1))
    with model.count() as ledger:
        model(IDS[:3])
    assert ledger.events == wanted.events
    assert model.ops.here.place is model.ops.root


def test_threads_on_one_model():
    assert threads.run(8, 3) == 0


def test_an_injector_reaches_every_line():
    model, _ = counting.make_model(plain=True)
    injector = Injector(10**9)
    assert not injector.run(lambda: model(IDS[:2]))
    assert injector.passed > 1000
