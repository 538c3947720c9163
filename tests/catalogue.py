"""Collects the messages of the source that the catalogue must translate. `python -m tests.catalogue` updates it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "kvsim"
TRANSLATED_CALLS = {"say", "Words", "KvsimError", "UsageError", "FileError", "BackendError"}
TRANSLATED_CALLS |= {"Problem", "UnreadableError", "ShapeError", "CallTimeoutError", "mark_unknown"}  # of kvsim.testing


def find_messages() -> dict[str, list[str]]:
    """{message: files}, where a message is the string argument of `say(...)`, of an error or of another such call."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                first = node.args[1 if name == "mark_unknown" else 0] if name in TRANSLATED_CALLS else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.setdefault(first.value, []).append(str(file.relative_to(PACKAGE)))
    return found


PO = PACKAGE / "locale" / "zh" / "LC_MESSAGES" / "kvsim.po"


def update(translations: dict[str, str] | None = None) -> None:
    """Rewrite the Chinese catalogue with exactly the messages of the source, their present translations and those of
    `translations`; compile it, and print the messages without a translation."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po, write_po

    with PO.open("rb") as file:
        catalogue = read_po(file, locale="zh")
    messages, given = find_messages(), translations or {}
    for stale in [m.id for m in catalogue if m.id and m.id not in messages]:
        catalogue.delete(stale)
    for message in messages:
        known = catalogue.get(message)
        catalogue.delete(message)
        catalogue.add(message, given.get(message) or (known.string if known else ""))
    with PO.open("wb") as file:
        write_po(file, catalogue, width=110, sort_output=True)
    with PO.with_suffix(".mo").open("wb") as file:
        write_mo(file, catalogue)
    print(*(f"missing: {m.id}" for m in catalogue if m.id and not m.string), sep="\n")


if __name__ == "__main__":
    update()
