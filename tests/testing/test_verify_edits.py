"""`kvsim verify` of code that can be cropped, forked or put in another order: right, wrong, and unusable methods."""

import pytest

from kvsim.cli import run
from kvsim.testing.subject.remote import NoAnswerError, Remote, RemoteObject, reorder
from kvsim.testing.verifying import BROKEN, FINE, WRONG, verify
from tests.testing.in_one_process import verify_here
from tests.testing.test_verify import CACHE, write

REORDERED = "return [caches[i].fork() for i in order]"
METHODS = """
    def crop(self, length):
        self.rows = {layer: tuple(x[:, :length] for x in both) for layer, both in self.rows.items()}

    def fork(self):
        other = KVCache()
        other.rows = dict(self.rows)
        return other

    @staticmethod
    def reorder(caches, order):
        return [caches[i].fork() for i in order]
"""
DECODER = """
import copy
from tests.testing.strangers.numpy_decoders import NumpyDecoder

class Mine(NumpyDecoder):
    has_window = True
"""


def verify_with(folder, *changes):
    text = CACHE + METHODS
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return verify_here(write(folder, text), "KVCache")


def test_right_ones(tmp_path, capsys):
    target = write(tmp_path, CACHE + METHODS) + ":KVCache"
    assert run(["verify", target, "--lang", "en"]) == 0
    assert capsys.readouterr().out == f"{target}: right, also after crop, fork, reorder\n"


@pytest.mark.parametrize(("changes", "edits"), [
    ([("self.rows = {layer: tuple", "other = KVCache()\n        other.rows = {layer: tuple"),
      ("items()}\n", "items()}\n        return other\n")], ("crop", "fork", "reorder")),
    ([("items()}\n", "items()}\n        return length\n")], ("crop", "fork", "reorder")),
    ([("def crop", "def truncate"), (".fork()", ".clone()"), ("def fork", "def clone"), ("def reorder", "def select")],
     ("crop", "fork", "reorder")),
    ([("        self.rows = {layer: tuple", "        raise NotImplementedError\n        {layer: tuple")],
     ("fork", "reorder")),
    ([("def crop(self, length)", "def crop(self, first, last)"), ("length", "1"), ("@staticmethod\n", "\n")],
     ("fork",)),
    ([("class KVCache:", "class KVCache(dict):")], ()),
])  # fmt: skip
def test_which_methods_are_called(changes, edits, tmp_path):
    """By their names and arguments; one that is not written is left out."""
    found = verify_with(tmp_path, *changes)
    assert (found.ended, found.text, found.edits) == (FINE, "", edits)


@pytest.mark.parametrize(("before", "after", "id"), [
    ("tuple(x[:, :length]", "tuple(x[:, :length + 1]", "crop_keeps_one_too_many"),
    ("tuple(x[:, :length]", "tuple(x[:, :length or None]", "crop_zero_keeps_all"),
    ("self.rows = {layer: tuple", "{layer: tuple", "crop_keeps_rows"),
    ("return other", "return self", "fork_not_copied"),
    ("other.rows = dict(self.rows)", "other.rows = self.rows", "fork_not_copied"),
    ("caches[i].fork() for", "caches[i] for", "reorder_not_copied"),
    (REORDERED, "pass", "reorder_not_done"),
    (REORDERED, "caches[:] = [caches[i].fork() for i in order]", None),
    (REORDERED, "old = [one.fork() for one in caches]\n"
     "        for i, place in enumerate(order): caches[place] = old[i]", "reorder_inverted"),
    (REORDERED, "for place, i in enumerate(order): caches[place] = caches[i].fork()",
     "reorder_not_copied"),
])  # fmt: skip
def test_wrong_ones_are_named(before, after, id, tmp_path):
    found = verify_with(tmp_path, (before, after))
    assert (found.ended, found.facts.get("diagnosis")) == ((WRONG, [id]) if id else (FINE, None))


@pytest.mark.parametrize(("before", "after", "said"), [
    ("        return other", "        pass", "fork gave NoneType, expected an object of KVCache"),
    (REORDERED, "return caches[0]", "reorder gave KVCache, expected a list of 3 objects"),
    (REORDERED, "return order", "reorder gave int, expected an object of KVCache"),
    ("        self.rows = {layer", "        return ''\n        {layer", "crop gave str, expected an object of KVCache"),
    ("        other = KVCache()", "        raise KeyError(3)\n", "fork raised KeyError: 3"),
])  # fmt: skip
def test_methods_that_give_something_else(before, after, said, tmp_path, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    found = verify_with(tmp_path, (before, after))
    assert found.ended == WRONG
    assert said in found.text
    assert "\n" not in found.text


@pytest.mark.dev
def test_a_method_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    text = (CACHE + METHODS).replace("        other = KVCache()", "        while True: pass")
    found = verify(write(tmp_path, text) + ":KVCache", seconds=8.0)
    assert (found.ended, "did not end within 8 s" in found.text) == (BROKEN, True)


@pytest.mark.parametrize(("method", "id"), [
    ("def clone(self): return copy.deepcopy(self)", None),
    ("@staticmethod\n    def select(states, order): return [copy.deepcopy(states[i]) for i in order]", None),
    ("@classmethod\n    def reorder(cls, states, order): return [states[i] for i in order]", "reorder_not_copied"),
    ("def crop(self, length): self.seen = length", "crop_keeps_rows"),
    ("def clone(self): return copy.copy(self)", "fork_not_copied"),
])  # fmt: skip
def test_decoders(method, id, tmp_path):
    """With a window too."""
    found = verify_here(write(tmp_path, f"{DECODER}    {method}\n"), "Mine")
    assert found.facts.get("diagnosis") == (None if id is None else [id])
    assert found.edits == (() if id else ("reorder",) if "select" in method else ("fork",))


@pytest.mark.parametrize(("answer", "ask"), [
    ({"number": "1"}, lambda one: one.crop(2)), ({}, lambda one: one.crop(2)), ({"number": None}, RemoteObject.fork),
    ({"numbers": [1, 2]}, lambda one: reorder([one] * 3, [0, 1, 2])), ({"numbers": 3}, lambda one: reorder([one], [0])),
    ({"numbers": [1, True, 2.0]}, lambda one: reorder([one] * 3, [0, 1, 2])),
])  # fmt: skip
def test_answers_that_are_none(answer, ask):
    remote = Remote(None)
    remote.call = lambda *arguments, **facts: (answer, [])
    with pytest.raises(NoAnswerError):
        ask(RemoteObject(remote, 7))
