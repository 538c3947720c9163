"""An object that says that it can be emptied gets a second text."""

import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.subject.methods import find_clear
from kvsim.testing.verifying import FINE, WRONG, verify
from tests.testing.strangers.numpy_decoders import NumpyDecoder
from tests.testing.test_verify import CACHE


def check(cls, **more):
    weights = testing.weights(layers=1)
    testing.assert_split_invariant(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, **more)


class Emptied(NumpyDecoder):
    def reset(self):
        self.caches, self.seen = [None] * self.c.layers, 0


class KeepsAll(NumpyDecoder):
    def reset(self):
        pass


class KeepsPositions(NumpyDecoder):
    """Right, because only differences of rotary positions count."""

    def reset(self):
        self.caches = [None] * self.c.layers


class NotYet(NumpyDecoder):
    def reset(self):
        raise NotImplementedError


class WithArguments(NumpyDecoder):
    def reset(self, batch):
        raise AssertionError


class Breaks(Emptied):
    def reset(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("cls", [Emptied, KeepsPositions, NotYet, WithArguments])
def test_right_ones_are_accepted(cls):
    check(cls)


def test_one_that_is_not_emptied_is_named():
    with pytest.raises(OracleError) as caught:
        check(KeepsAll)
    assert caught.value.facts["diagnosis"] == ["cache_not_reset_between_prompts"]
    assert caught.value.facts["failing"] == [[1, 1]]
    assert "only where an object is used again after reset(): texts fed to a new one pass" in str(caught.value)
    assert "shortest : feed [1, 1], after reset()" in str(caught.value)
    check(KeepsAll, clear=False)
    check(KeepsAll, clear=Emptied.reset)


def test_one_that_raises_is_reported():
    with pytest.raises(OracleError, match=r"reset raised RuntimeError: no \(feed \[1, 1\], step 0\)"):
        check(Breaks)


def test_containers_and_libraries_say_nothing_of_it():
    source = compile("class Cache:\n    def clear(self): pass\n", "/usr/lib/site-packages/other/cache.py", "exec")
    names = {}
    exec(source, names)
    assert find_clear(names["Cache"](), None) is None
    assert find_clear({}, None) is None
    assert find_clear([], None) is None
    name, clear = find_clear({1: 2}, dict.clear)
    assert name == "clear"
    clear(filled := {1: 2})
    assert filled == {}


@pytest.mark.parametrize(("body", "ended"), [("self.rows = {}", FINE), ("pass", WRONG)])
def test_verify_empties_a_cache(body, ended, tmp_path):
    (tmp_path / "mine.py").write_text(f"{CACHE}\n    def clear(self):\n        {body}\n", encoding="utf-8")
    found = verify(f"{tmp_path / 'mine.py'}:KVCache")
    assert found.ended == ended
    assert ended == FINE or found.facts["diagnosis"] == ["cache_not_reset_between_prompts"]
