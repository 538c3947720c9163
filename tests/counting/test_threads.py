"""A ledger, a watcher and a scope belong to the thread that opened them, also when it is interrupted."""

import pickle
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import kvsim
from kvsim.errors import OtherThreadsWarning
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from tests.models import PRIMES

PACKAGE = str(Path(kvsim.__file__).parent)
IDS = [1, 2, 3, 4, 5, 6, 7]


def fresh_model():
    return Model(PRIMES, random_weights(PRIMES), dtype="float64")


def count_run(model, ids=IDS):
    """The events of a prefill and a decode step, counted in this thread."""
    cache = model.new_cache()
    with model.count() as ledger:
        model(ids[:-1], cache)
        model(ids[-1:], cache)
    return ledger.events


def in_thread(work):
    """Run `work()` in a new thread; its result, or the exception that it raised."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.fixture
def busy():
    """Python switches threads every 10 µs."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_each_thread_counts_its_own(busy):
    model = fresh_model()
    alone = [count_run(model, IDS[: 2 + i % 5]) for i in range(4)]
    start = threading.Barrier(4)

    def work(i):
        start.wait()
        return [count_run(model, IDS[: 2 + i % 5]) for _ in range(25)]

    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        for wanted, found in zip(alone, pool.map(work, range(4)), strict=True):
            assert all(events == wanted for events in found)
    assert [count_run(model, IDS[: 2 + i % 5]) for i in range(4)] == alone
    assert not any(event.site.count("layers.") > 1 for events in alone for event in events)
    assert len(model.ops._records.every) <= 5


def test_each_thread_watches_its_own(busy):
    model = fresh_model()
    start = threading.Barrier(2)

    def work(ids):
        start.wait()
        for _ in range(25):
            with model.watch("layers.*.probs") as seen:
                model(ids)
            assert {probs.shape[-1] for shown in seen.history.values() for probs in shown} == {len(ids)}
            assert [len(shown) for shown in seen.history.values()] == [1, 1]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (IDS, IDS[:3])))


def test_a_ledger_belongs_to_the_thread_that_enters_it():
    model = fresh_model()
    counting = model.count()

    def work():
        with counting as ledger:
            model(IDS)
        return ledger

    assert len(in_thread(work)) == len(model_events(model))


def model_events(model):
    with model.count() as ledger:
        model(IDS)
    return ledger.events


def test_products_of_other_threads_are_not_lost_silently(busy):
    model = fresh_model()
    each = len(model_events(model))
    with model.count() as ledger, ThreadPoolExecutor(4) as pool:
        model(IDS)
        list(pool.map(lambda _: model(IDS), range(20)))
        with pytest.warns(OtherThreadsWarning, match=f"^{20 * each} products of this model ran in other threads"):
            assert len(ledger) == each
    assert ledger.left_out == 20 * each
    in_thread(lambda: model(IDS))  # after the ledger was closed: not counted
    assert ledger.left_out == 20 * each
    for read in (lambda: ledger.macs, lambda: ledger.by("site"), lambda: list(ledger), ledger.score_cells):
        with pytest.warns(OtherThreadsWarning) as caught:
            read()
        assert all(warning.filename == __file__ for warning in caught)


def test_products_of_short_lived_threads_are_counted():
    """A thread reuses the record of one that has ended, and the record's count continues."""
    model = fresh_model()
    each = len(model_events(model))
    with model.count() as ledger:
        for n in range(30):
            in_thread(lambda: model(IDS))
            assert ledger.left_out == (n + 1) * each
        in_thread(lambda: count_run(model))
    assert len(model.ops._records.every) == 2
    assert ledger.left_out == 30 * each + len(count_run(model))  # an empty closed ledger adds these, too


def test_threads_that_count_for_themselves_do_not_warn():
    model = fresh_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with model.count() as ledger:
            model(IDS)
            in_thread(lambda: count_run(model))
            in_thread(lambda: kvsim.generate(model, [1, 2], max_new_tokens=2))
        assert (len(ledger), ledger.left_out) == (len(model_events(model)), 0)


def test_an_empty_ledger_around_threads_that_count_warns():
    """The caller probably expects the sum over all threads, which is not 0."""
    model = fresh_model()
    with model.count() as ledger:
        found = in_thread(lambda: count_run(model))
        assert ledger.macs == 0  # no warning while open: this thread may still run something
    with pytest.warns(OtherThreadsWarning, match=f"^{len(found)} products"):
        assert ledger.macs == 0


def test_kvsims_own_runs_do_not_warn():
    model = fresh_model()
    done, go = threading.Event(), threading.Event()

    def work():
        go.set()
        while not done.is_set():
            model(IDS[:2])

    with warnings.catch_warnings(), ThreadPoolExecutor(1) as pool:
        warnings.simplefilter("error")
        running = pool.submit(work)
        go.wait()
        try:
            run = kvsim.generate(model, [1, 2], max_new_tokens=3)
        finally:
            done.set()
        running.result()
    assert run.ledger.events == kvsim.generate(model, [1, 2], max_new_tokens=3).ledger.events


def test_reading_while_another_thread_counts(busy):
    """Reading never raises, and returns a prefix of the final events."""
    model = fresh_model()
    opened, shown = threading.Event(), []

    def work():
        with model.count() as ledger:
            shown.append(ledger)
            opened.set()
            for _ in range(40):
                model(IDS[:2])
        return ledger

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        opened.wait()
        beginnings = []
        while not running.done():
            beginnings.append(list(shown[0]))
            assert shown[0].left_out == 0
        whole = running.result().events
    assert all(beginning == whole[: len(beginning)] for beginning in beginnings)
    with model.count() as alone:
        model(IDS[:2])
    assert whole == alone.events * 40


class Stop(BaseException):
    """Raised in place of the execution of a line."""


def interrupt(work, line):
    """Run `work()` and raise Stop before the `line`-th line of the package that it executes, counted from 0; whether it
    reached that line. (Python ignores exceptions in `__del__`.)"""
    left = line

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Stop
        return trace

    sys.settrace(trace)
    try:
        work()
    except Stop:
        pass
    finally:
        sys.settrace(None)
    return left < 0


def interrupted_everywhere(model, work, check):
    """Interrupt `work` at every line in turn and call `check` after each; the number of lines."""
    line = 0
    while interrupt(work, line):
        check()
        line += 1
    return line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_at_every_line_of_a_step():
    model = fresh_model()
    wanted, logits = model_events(model), model(IDS)
    ledgers = []

    def work():
        with model.count() as outer:
            ledgers.append(outer)
            with model.watch("layers.*.probs"), model.count() as inner:
                ledgers.append(inner)
                model(IDS)

    def check():
        here = model.ops.here
        assert (here.place, here.ledgers, here.watchers, here.tally[0]) == (model.ops.root, (), (), None)
        lengths = [len(ledger) for ledger in ledgers]
        assert model_events(model) == wanted
        assert [len(ledger) for ledger in ledgers] == lengths
        assert all(ledger.events == wanted[: len(ledger)] for ledger in ledgers)
        ledgers.clear()

    assert interrupted_everywhere(model, work, check) > 300
    assert np.array_equal(model(IDS), logits)


def test_an_exception_in_the_middle_leaves_the_scope():
    model = fresh_model()
    wanted = count_run(model)
    softmax, calls = model.ops.softmax, []

    def fail(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return softmax(*arguments)

    with pytest.MonkeyPatch.context() as patch, model.count() as ledger:
        patch.setattr(model.ops, "softmax", fail)
        with pytest.raises(KeyboardInterrupt):
            model(IDS)
    assert [event.site for event in ledger][-1] == "layers.1.scores"
    assert count_run(model) == wanted


def test_a_context_is_entered_once():
    model = fresh_model()
    counting, watching = model.count(), model.watch("final")
    for context in (counting, watching):
        with context:
            model(IDS)
            with pytest.raises(RuntimeError, match="entered before"):
                context.__enter__()
        with pytest.raises(RuntimeError, match="entered before"):
            context.__enter__()
    assert len(counting.ledger) == len(model_events(model))


def test_a_thread_that_ends_with_an_open_ledger_keeps_its_record():
    """Otherwise products of a later thread would be counted by the ledger of the ended one."""
    model = fresh_model()
    counting = model.count()

    def leave_open():
        ledger = counting.__enter__()
        model(IDS)
        return ledger

    ledger = in_thread(leave_open)
    before = len(ledger._read())
    in_thread(lambda: model(IDS))
    assert len(ledger._read()) == before == len(model_events(model))


def test_a_ledger_closed_by_another_thread_leaves_the_record_alone():
    model = fresh_model()
    counting = model.count()
    ledger = counting.__enter__()
    model(IDS)
    in_thread(lambda: counting.__exit__(None, None, None))
    model(IDS)
    assert len(ledger._read()) == len(model_events(model))  # which also opens and closes another one
    assert model.ops.here.ledgers == ()
    assert model.ops.here.tally[0] is None


def test_a_copied_ledger_still_warns():
    model = fresh_model()
    with model.count() as ledger:
        in_thread(lambda: model(IDS))
    copied = pickle.loads(pickle.dumps(ledger))
    assert copied.left_out == ledger.left_out > 0
    with pytest.warns(OtherThreadsWarning):
        len(copied)
