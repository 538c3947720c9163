"""Runs the notebooks of examples/ and stores what they print: `python -m tests.notebooks`, then read the diff."""

import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def language_of(path: Path) -> str:
    return "zh" if path.name.endswith(".zh-CN.ipynb") else "en"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def join_streams(outputs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The outputs, with what one print wrote in one piece: how it is cut depends on time."""
    for (kind, name), some in groupby(outputs, lambda output: (output["output_type"], output.get("name"))):
        same = list(some)
        if kind == "stream":
            text = "".join(line for output in same for line in output["text"])
            yield {"output_type": kind, "name": name, "text": text.splitlines(keepends=True)}
        else:
            yield from same


def execute(path: Path) -> dict[str, Any]:
    """The notebook with the outputs that it has now, in its language, without what changes from run to run."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}})
    client.execute(env={**os.environ, "KVSIM_LANG": language_of(path), "PYTHONPATH": str(EXAMPLES.parent)})
    found = json.loads(nbformat.writes(notebook))
    for number, cell in enumerate(found["cells"], start=1):
        cell |= {"metadata": {}, "id": f"cell-{number}"}
        if cell["cell_type"] == "code":
            cell["outputs"] = list(join_streams(cell["outputs"]))
    return found | {"metadata": METADATA, "nbformat_minor": 5}


def write(path: Path, notebook: dict[str, Any]) -> None:
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for file in NOTEBOOKS:
        write(file, execute(file))
        print(file.name)
