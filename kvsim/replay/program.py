"""A recorded step, made ready to be called: every array whose size is the same in each step is made once.

Calls on such arrays are bound to them. Arrays that grow with the context, and those that a cache shows, stand in
registers for the time of a step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from kvsim.arrays import Array
from kvsim.counting.repeated import Repeated
from kvsim.counting.symbolic import Poly
from kvsim.errors import KvsimError
from kvsim.replay.recording import Call, Recorded, Shown
from kvsim.spans import Span, View

Run = Callable[[], Any]


def parts_of(x: Any) -> list[Any]:
    """What an argument holds: recorded arrays, forms in t, constants."""
    if type(x) in (tuple, list):
        return [part for one in x for part in parts_of(one)]
    return [x.start, x.stop, x.step] if type(x) is slice else [x]


def expected_view(view: View, pos: Span) -> tuple[Any, ...]:
    """What a layer shows at `pos`, beside its arrays: `view` has forms in t."""
    start: Any = view.key_pos[0]
    return (Span(start if type(start) is int else start(pos.start), pos.stop), pos, *view[4:])


def as_encoded(keys: Array, values: Array, pos: Span) -> tuple[Array, Array]:
    """Rows come to the cache with their positions worked in: that was recorded."""
    return keys, values


class Program:
    """What a step of one token does, for every number t of tokens seen before it in lo .. hi."""

    def __init__(
        self, tape: Sequence[Call | Shown], token: Recorded, result: Recorded, events: Repeated, lo: int, hi: int
    ) -> None:
        self.lo, self.hi, self.events = lo, hi, events
        self._token = np.zeros(1, np.int64)
        self._fixed: dict[int, Array] = {id(token): self._token}
        self._at: dict[int, int] = {}  # which register
        self._registers: list[Any] = []
        self._pos = Span(0, 0)  # of the step that runs
        self._layers: Sequence[Any] = ()
        self.views = [call.view for call in tape if isinstance(call, Shown)]  # what the layers show, in order
        self.tape = tape  # keeps the recorded arrays, whose ids are used above
        made = [(call, self._make(call)) for call in tape]
        self.called = [call for call, run in made if run is not None]  # what runs, one by one
        self._runs = [run for _, run in made if run is not None]
        self._nothing = [None] * len(self._registers)
        self._result = result

    def __deepcopy__(self, _: Any) -> "Program":
        """Whoever copies a cache has no copy of this: its calls are bound to its arrays."""
        return self

    @property
    def runs(self) -> bool:
        """Is a step under way?"""
        return bool(self._layers)

    def fits(self, layers: Sequence[Any], pos: Span) -> bool:
        """Is a step at `pos` through these layers what was recorded?"""
        if not self.lo <= pos.start <= self.hi or len(layers) != len(self.views):
            return False
        pairs = zip(layers, self.views, strict=True)
        return all(layer.preview(pos)[2:] == expected_view(view, pos) for layer, view in pairs)

    def run(self, token: int, pos: Span, layers: Sequence[Any]) -> Array:
        """Logits [1, V] of the one token at `pos`, whose rows the caches `layers` take."""
        try:
            self._token[0] = token
            self._pos, self._layers = pos, layers
            for run in self._runs:
                run()
            made = self._value(self._result)
            return made.copy() if id(self._result) in self._fixed else made
        finally:
            self._layers = ()
            self._registers[:] = self._nothing  # of a cache is held on to

    # Where values stand

    def _is_fixed(self, x: Any) -> bool:
        """Is it the same array, or number, in every step?"""
        return all(type(part) is not Poly and id(part) not in self._at for part in parts_of(x))

    def _value(self, x: Any) -> Any:
        """An argument as it is now."""
        if type(x) is Recorded:
            at = self._at.get(id(x))
            return self._fixed[id(x)] if at is None else self._registers[at]
        if type(x) is Poly:
            return x(self._pos.start)
        if type(x) is slice:
            return slice(self._value(x.start), self._value(x.stop), x.step)
        return type(x)(self._value(part) for part in x) if type(x) in (tuple, list) else x

    def _fix(self, x: Recorded, array: Array) -> Array:
        self._fixed[id(x)] = array
        return array

    def _register(self, x: Recorded) -> int:
        self._registers.append(None)
        self._at[id(x)] = len(self._registers) - 1
        return self._at[id(x)]

    # What runs

    def _make(self, call: Call | Shown) -> Run | None:
        """What does the same again; None for what shows memory that stays where it is."""
        if isinstance(call, Shown):
            return self._make_shown(call)
        for x in parts_of([call.arguments, *call.options.values()]):
            if type(x) is Recorded and x.array is not None:
                self._fixed[id(x)] = x.array
        function, result = call.function, call.result
        fixed = self._is_fixed(call.arguments)
        if not self._is_fixed(list(call.options.values())):
            raise TypeError(f"an option of {function} changes from step to step: give it as an argument")
        options = {name: self._value(x) for name, x in call.options.items()}
        if call.mode == "over":
            return self._make_over(call, options)
        if call.mode == "view" and fixed:
            shown = function(*self._value(call.arguments), **options)
            if np.may_share_memory(shown, self._value(call.arguments[0])):
                self._fix(result, shown)
                return None
        if call.mode == "view" or any(type(size) is Poly for size in result.shape):
            return self._make_new(call, options)
        out = self._fix(result, np.empty(result.shape, result.dtype))
        if call.mode == "out":
            return self._bind(function, call.arguments, options | {"out": out})
        made = self._bind(function, call.arguments, options)
        return lambda: np.copyto(out, made())

    def _bind(self, function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Run:
        """A call without arguments."""
        if self._is_fixed(arguments):
            return partial(function, *self._value(arguments), **options)
        at, registers = [self._at.get(id(x)) for x in arguments], self._registers
        if at[0] is not None and self._is_fixed(arguments[1:]):
            first, rest = at[0], self._value(arguments[1:])
            return lambda: function(registers[first], *rest, **options)
        if len(at) == 2 and at[1] is not None and self._is_fixed(arguments[:1]):
            second, before = at[1], self._value(arguments[0])
            return lambda: function(before, registers[second], **options)
        return lambda: function(*self._value(arguments), **options)

    def _make_new(self, call: Call, options: dict[str, Any]) -> Run:
        """An array that is another in every step."""
        made, registers = self._bind(call.function, call.arguments, options), self._registers
        to = self._register(call.result)

        def run() -> None:
            registers[to] = made()

        return run

    def _make_over(self, call: Call, options: dict[str, Any]) -> Run:
        """What is written over the first argument, which is the result from then on."""
        first, rest = call.arguments[0], call.arguments[1:]
        if id(first) not in self._at:
            array = self._fix(call.result, self._fixed[id(first)])
            out = {"out": array} if isinstance(call.function, np.ufunc) else {}
            return self._bind(call.function, call.arguments, options | out)
        at = self._at[id(call.result)] = self._at[id(first)]
        function, registers = call.function, self._registers
        if not isinstance(function, np.ufunc):
            return self._bind(function, call.arguments, options)
        other = self._value(rest[0]) if self._is_fixed(rest) else None

        def run() -> None:
            x = registers[at]
            function(x, self._value(rest[0]) if other is None else other, out=x)

        return run

    def _make_shown(self, call: Shown) -> Run:
        """A cache takes its rows and shows what the query may look at, which must be what was recorded."""
        keys, values = (self._fixed[id(x)] for x in call.given)
        to_keys, to_values = (self._register(x) for x in call.shown)
        layer, view, registers = call.layer, call.view, self._registers

        def run() -> None:
            (shown,) = self._layers[layer].update(keys, values, self._pos, as_encoded)
            expected = expected_view(view, self._pos)
            if shown[2:] != expected:
                raise KvsimError(
                    "a cache shows {got} where {expected} was recorded: its preview and its update must agree",
                    got=shown[2:],
                    expected=expected,
                )
            registers[to_keys], registers[to_values] = shown.keys, shown.values

        return run
