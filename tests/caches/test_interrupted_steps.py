"""A step interrupted at any line, under every policy: it repeats to the same bits. `python -m tests.interruptions`
interrupts all lines; here one or two of every case, and more of two commits."""

from contextlib import suppress

import numpy as np
import pytest

from kvsim.caches.specs import POLICIES, parse_spec
from tests.interruptions import steps
from tests.interruptions.injector import InjectedError, Injector, count_lines

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # raised in __del__
CASES = [*steps.list_operations(), *steps.list_cases()]


def test_every_policy_is_interrupted():
    assert {parse_spec(case.name.split()[1]).name for case in CASES if ":" in case.name} <= set(POLICIES)
    for name in POLICIES:
        assert any(f" {name}" in case.name for case in CASES), name


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name.replace(" ", "-") for case in CASES])
def test_lines_of_a_step(number):
    case = CASES[number]
    if "fp8" in case.name:
        pytest.importorskip("ml_dtypes")
    report = steps.run(case, 997, number * 173 % 997, error=(KeyboardInterrupt, InjectedError)[number % 2])
    assert not report.wrong, report
    assert set(report.counts) <= {"repeated", "done"}


def lines_from(case, function):
    """The lines of a step from the first of `function` on."""
    caches = case.start()
    places = []

    class Recorder(Injector):
        def _trace(self, frame, event, argument):
            if event == "line":
                places.append(frame.f_code.co_name)
            return super()._trace(frame, event, argument)

    Recorder().run(lambda: case.step(caches))
    assert function in places
    return range(places.index(function) - 1, len(places))


@pytest.mark.parametrize("case", [steps.plain_case("int8:residual=2,group=2", "chunk"), steps.pool_case(2, 30, False)],
                         ids=lambda case: case.name.replace(" ", "-"))  # fmt: skip
def test_lines_of_a_commit(case):
    caches = case.start()
    wanted = case.step(caches), case.later(caches)
    report = steps.Report()
    for line in lines_from(case, "commit")[::7]:
        steps.interrupt(case, line, wanted, report)
    assert not report.wrong, report
    assert report.counts["repeated"] > 5


@pytest.mark.parametrize("spec", ["dynamic", "int8:residual=2,group=2", "h2o:6", "sinks:2+3", "paged:4"])
def test_an_interruption_of_the_undoing(spec):
    """A second Ctrl-C while the first is undone: the next use undoes the step."""
    case = steps.plain_case(spec, "chunk")
    caches = case.start()
    wanted = [*case.step(caches), *case.later(caches)]

    def start():
        """Caches whose next step fails when the second of three layers is committed."""
        caches, failures = case.start(), [InjectedError()]
        commit = caches[0].layers[1].commit

        def fail_once(pos):
            if failures:
                raise failures.pop()
            commit(pos)

        caches[0].layers[1].commit = fail_once
        return caches

    def step(caches):
        with suppress(InjectedError):
            case.step(caches)

    caches = start()
    lines = count_lines(lambda: step(caches))
    for line in range(lines - 14, lines, 2):
        caches = start()
        assert Injector(line).run(lambda caches=caches: step(caches))
        assert caches[0].seen == 7
        assert steps.same([*case.step(caches), *case.later(caches)], wanted), line


def test_a_batch_is_taken_by_all_or_none():
    case = steps.batch_case("dynamic")
    caches = case.start()
    seen = [held.seen for held in caches]
    lines = lines_from(case, "commit")
    assert Injector(lines[len(lines) // 2]).run(lambda: case.step(caches))
    assert [held.seen for held in caches] == seen
    assert [len(held.ids) for held in caches] == seen
    assert all(np.isfinite(logits).all() for logits in case.step(caches))
