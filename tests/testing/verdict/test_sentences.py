"""What failures say, in both languages: every sentence is there, with the same places, and none is stale."""

import ast
import string
from pathlib import Path

import pytest

import kvsim
from kvsim.testing.verdict.sentences import chinese, tell

FOLDER = Path(kvsim.__file__).parent / "testing"
CALLS = {"tell": 1, "UnreadableError": 0, "Problem": 0, "lose": 1}


def templates():
    """Every string that stands where a template does, or is put into a variable that is told later."""
    found = set()
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in chinese():
                found.add(node.value)
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if name in CALLS:
                at = CALLS[name]
                if len(node.args) > at and isinstance(node.args[at], ast.Constant):
                    found.add(node.args[at].value)
    return found


# Made of another by a replacement.
MADE = {t for t in chinese() if t.startswith("logits under {policy} differ")}


def test_every_sentence_is_translated_and_none_is_stale():
    assert templates() | MADE == set(chinese())


@pytest.mark.parametrize("template", sorted(chinese()))
def test_the_same_places(template):
    def places(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert places(template) == places(chinese()[template])


def test_a_language():
    assert tell("en", "keys") == "keys"
    assert tell("zh", "keys") == "键"
