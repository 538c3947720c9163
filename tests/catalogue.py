"""Every message of the source: what a catalogue must translate."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "kvsim"
SPEAKERS = {"say", "Words", "KvsimError", "UsageError", "FileError", "BackendError"}


def find_messages() -> dict[str, list[str]]:
    """Message -> the files that say it: the first argument of `say(...)` and of every error."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                first = node.args[0]
                if name in SPEAKERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.setdefault(first.value, []).append(str(file.relative_to(PACKAGE)))
    return found
