"""The static look at a learner's file, before any of it runs: can it be read, is it still the stub, does it import the
reference."""

import ast
from pathlib import Path

from kvsim.errors import FileError
from kvsim.files.reading import open_file
from kvsim.learn.exercise import Exercise
from kvsim.testing.subject.calls import Problem

LARGEST = 2**20  # bytes of a learner's file
REFERENCE = "kvsim"


def read_text(path: Path) -> str:
    """The file as text. FileError: absent, too large, or no UTF-8."""
    with open_file(path) as file:
        if file.size > LARGEST:
            raise FileError("{path} has {size} bytes: an exercise is read up to {most}", path=path, size=file.size,
                            most=LARGEST)  # fmt: skip
        data = file.read(0, file.size)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError("{path} is no text in UTF-8", path=path) from error


def parse(text: str) -> ast.Module | Problem:
    """The file as a tree, or why it is not Python."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        values = {"line": error.lineno or 1, "error": error.msg}
        return Problem("line {line} is not Python: {error}", values)
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes, or nested too deeply
        return Problem("line {line} is not Python: {error}", {"line": 1, "error": type(error).__name__})


def is_stub(tree: ast.Module, exercise: Exercise) -> bool:
    """Whether nothing but comments and blank lines has changed since the file was written."""
    return _shape(tree) == _shape(ast.parse((exercise.folder / "stub.py").read_text(encoding="utf-8")))


def _shape(tree: ast.Module) -> str:
    """The tree without docstrings, which a learner may translate."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def find_reference(tree: ast.Module) -> int | None:
    """The line that imports kvsim; None if there is none."""
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] == REFERENCE for name in names) and isinstance(node, ast.Import | ast.ImportFrom):
            return node.lineno
    return None
