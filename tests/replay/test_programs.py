"""What a program is made of: products, dtypes, arrays that grow, and what it holds a cache to."""

import numpy as np
import pytest

import kvsim
from kvsim.caches.dynamic import DynamicLayer
from kvsim.counting.events import PROJECTIONS
from kvsim.counting.repeated import Repeated
from kvsim.counting.symbolic import Poly
from kvsim.errors import KvsimError, UsageError
from kvsim.replay.program import Program
from kvsim.replay.recording import Call, Tape
from kvsim.spans import Span
from tests.arrays.runs import ZOO
from tests.models import PRIMES
from tests.replay.common import both, is_alike, programs_of


def test_calls_on_arrays_that_grow():
    """One array that grows with t, written over by another, and shown by its numbers."""
    model = kvsim.load("demo")
    tape, t = Tape(), Poly((0, 1), 0, 50)
    xp = tape.namespace(model.ops.xp)
    token = tape.given((1,), "int64")
    x, y = xp.arange(0, t + 2, dtype="float64"), xp.arange(1, t + 3, dtype="float64")
    x += y
    x *= xp.astype(token, "float64")
    result = xp.reshape(xp.concat([x, y]), (2, t + 2))[:, 1 : t + 1]
    program = Program(tape.calls, token, result, Repeated([]), 0, 50)
    for n in (3, 0, 7):
        made = program.run(4, Span(n, n + 1), ())
        first, second = np.arange(n + 2.0), np.arange(1.0, n + 3.0)
        assert np.array_equal(made, np.stack([4 * (first + second), second])[:, 1 : n + 1])


def test_options_that_change_from_step_to_step_are_refused():
    tape, t = Tape(), Poly((0, 1), 0, 50)
    xp, token = tape.namespace(kvsim.load("demo").ops.xp), tape.given((1,), "int64")
    result = xp.broadcast_to(token, shape=(t + 2,))
    with pytest.raises(TypeError, match="changes from step to step"):
        Program(tape.calls, token, result, Repeated([]), 0, 50)
    with pytest.raises(UsageError, match="no values"):
        bool(token)


def test_the_products_of_a_program_are_its_events():
    """Every product is told, and nothing else: query, key and value are three events of one product."""
    model = kvsim.load("demo")
    model([5], model.new_cache())
    (program,) = programs_of(model)
    products = [c for c in program.tape if isinstance(c, Call) and getattr(c.function, "__name__", "") == "matmul"]
    events = program.events.at(0)
    inside = sum(event.kind in (*PROJECTIONS[1:], "up") for event in events)
    assert len(products) == len(events) - inside == 13


@pytest.mark.parametrize("name", ZOO)
def test_every_array_of_a_program_is_of_the_dtype_that_was_recorded(name):
    """One wider number in an expression would promote every product after it."""
    if not is_alike(ZOO[name]):
        return
    model, _ = both(ZOO[name], "float32")
    model([5], model.new_cache())
    (program,) = programs_of(model)
    products = [call for call in program.called if getattr(getattr(call, "function", None), "__name__", "") == "matmul"]
    assert len(products) > 6 * model.config.n_layers
    assert {x.dtype for call in products for x in (*call.arguments, call.result)} == {"float32"}
    recorded = {id(call.result): call.result.dtype for call in program.tape if isinstance(call, Call)}
    fixed = [(array.dtype, recorded[i]) for i, array in program._fixed.items() if i in recorded]
    assert fixed
    assert [pair for pair in fixed if pair[0] != pair[1]] == []


@pytest.mark.parametrize("change", ["window", "query_pos", "observer"])
def test_every_part_of_what_is_shown_is_held(change):
    class Odd(DynamicLayer):
        def preview(self, pos):
            return super().preview(pos)

        def update(self, keys, values, pos, encode):
            view = super().update(keys, values, pos, encode)
            odd = {"window": 1, "query_pos": Span(0, 1), "observer": print}
            return view._replace(**{change: odd[change]}) if pos.start == 1 else view

    model, _ = both(PRIMES)
    cache = model.new_cache()
    cache.layers = [Odd(layer.ops, layer.shape) for layer in cache.layers]
    model([5], cache)
    with pytest.raises(KvsimError, match="its preview and its update must agree"):
        model([6], cache)


def test_what_was_recorded_is_shown_or_refused():
    """A cache that shows other positions than its policy said is not multiplied in silence, and the step is undone."""

    class Forgetful(DynamicLayer):
        def preview(self, pos):
            return super().preview(pos)

        def update(self, keys, values, pos, encode):
            view = super().update(keys, values, pos, encode)
            return view._replace(key_pos=Span(1, pos.stop), keys=view.keys[:, 1:, :], values=view.values[:, 1:, :])

    model, _ = both(PRIMES)
    cache = model.new_cache()
    cache.layers = [Forgetful(layer.ops, layer.shape) for layer in cache.layers]
    with pytest.raises(KvsimError, match="its preview and its update must agree"):
        model([5], cache)
    assert (cache.seen, cache.layers[0].rows) == (0, 0)
