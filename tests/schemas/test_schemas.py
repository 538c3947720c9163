"""One table of schemas, one stamp, one writer of JSON."""

import ast
import json
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.schemas import FOLDER, VERSIONS, dump, read_schema, stamp

PACKAGE = Path(kvsim.__file__).parent
# Files that write JSON which no command prints: metadata of a cache's file, and what goes to and from child processes.
OTHER_WRITERS = {"caches/cache_file.py", "files/safetensors_arrays.py", "loading/gguf/tokenizer.py",
                 "loading/tokenizers/library.py", "loading/tokenizers/process.py",
                 "testing/subject/wire.py", "views/page/bundle.py"}  # fmt: skip


def test_every_schema_has_a_file_and_every_file_an_entry():
    assert {file.name for file in FOLDER.glob("*.json")} == {f"{name}-{v}.json" for name, v in VERSIONS.items()}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_schema_is_valid_and_requires_the_stamp(name):
    schema = json.loads(read_schema(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == stamp(name)["schema"] == f"kvsim.{name}/{VERSIONS[name]}"
    validator = jsonschema.Draft202012Validator(schema)
    assert not validator.is_valid({})
    assert not validator.is_valid({**stamp(name), "schema": "kvsim.other/1"})


def test_stamp():
    assert stamp("trace") == {"schema": "kvsim.trace/1", "kvsim": kvsim.__version__}
    with pytest.raises(KeyError):
        stamp("unknown")


def test_dump_keeps_characters_and_integers_and_refuses_nan():
    assert dump({"中": 10**30}) == '{"中": 1000000000000000000000000000000}'
    with pytest.raises(ValueError, match="JSON compliant"):
        dump([float("nan")])


def writers(tree):
    """Lines that call json.dumps or json.dump, or import one of them."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("dumps", "dump"):
            lines += [node.lineno] if isinstance(node.value, ast.Name) and node.value.id == "json" else []
        if isinstance(node, ast.ImportFrom) and node.module == "json":
            lines += [node.lineno for alias in node.names if alias.name in ("dumps", "dump")]
    return lines


def test_the_search_for_writers_finds_them():
    assert writers(ast.parse("import json\njson.dumps(1)")) == [2]
    assert writers(ast.parse("from json import dump")) == [1]
    assert writers(ast.parse("import json\njson.loads('1')")) == []


def test_nothing_else_writes_json():
    found = {
        str(file.relative_to(PACKAGE)): lines
        for file in PACKAGE.rglob("*.py")
        if (lines := writers(ast.parse(file.read_text(encoding="utf-8"))))
    }
    assert set(found) - OTHER_WRITERS == {"schemas/__init__.py"}, found
