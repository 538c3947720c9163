"""A step interrupted at any line, under every policy: it repeats to the same bits. `python -m tests.interruptions`
interrupts all lines; here one or two of every case, and more where rows are committed and blocks counted."""

from contextlib import suppress

import numpy as np
import pytest

from kvsim.caches.specs import POLICIES
from tests.interruptions import steps
from tests.interruptions.injector import InjectedError, Injector, count_lines

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # raised in __del__
CASES = [*steps.list_operations(), *steps.list_cases()]


def test_every_policy_is_interrupted():
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


def lines_within(case, part):
    """The lines of a step that lie in files or functions whose "file:function" contains `part`."""
    caches = case.start()
    places = []

    class Recorder(Injector):
        def _trace(self, frame, event, argument):
            if event == "line":
                places.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
            return super()._trace(frame, event, argument)

    Recorder().run(lambda: case.step(caches))
    return [i for i, place in enumerate(places) if part in place]


@pytest.mark.parametrize(
    ("case", "part", "every"),
    [
        (steps.plain_case("int8:residual=2,group=2", "chunk"), "layer.py:commit", 2),
        (steps.plain_case("h2o:6", "chunk"), "evicting/base.py:commit", 2),
        (steps.pool_case(2, 30, False), "paged/blocks.py", 7),
        (steps.pool_case(2, 30, False), "paged/table.py", 11),
        (steps.pool_case(4, None, new=1), "table.py:_replace", 1),
        (steps.reuse_case(), "paged/", 5),
    ],
    ids=("quantise", "evict", "blocks", "tables", "copy", "reuse"),
)
def test_lines_that_matter(case, part, every):
    caches = case.start()
    wanted = case.step(caches), case.later(caches)
    report = steps.Report()
    lines = lines_within(case, part)[::every]
    for line in lines:
        steps.interrupt(case, line, wanted, report)
    assert not report.wrong, report
    assert report.counts["repeated"] + report.counts["done"] == len(lines) > 3


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
    lines = lines_within(case, "cache.py:commit")
    assert Injector(lines[-2]).run(lambda: case.step(caches))
    assert [held.seen for held in caches] == seen
    assert [len(held.ids) for held in caches] == seen
    assert all(np.isfinite(logits).all() for logits in case.step(caches))
