"""Rules for the source of the package: one place that multiplies, downward imports, short files and functions."""

import ast
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import kvsim

PACKAGE = Path(kvsim.__file__).parent
# Stubs of exercises are handed out, and are no modules.
FILES = sorted(file for file in PACKAGE.rglob("*.py") if "track" not in file.parts)
MODULES = {
    ".".join(("kvsim", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in FILES
}

# Lowest floor first. A room (a top-level folder or file) may import only from lower floors, not from another room of
# its own floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("config", "errors", "processes", "schemas", "spans", "text"),
    ("checks", "counting", "files", "i18n", "weights"),
    ("arrays", "blueprint"),
    ("ops",),
    ("caches", "fast", "transformer"),
    ("model",),
    ("generation", "loading", "testing"),
    ("comparisons", "doctor", "pytest_plugin"),
    ("costs",),
    ("benchmark", "learn"),
    ("views",),
    ("cli",),
    ("entry",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, start=1) for room in rooms}
# The folders inside a room, lowest floor first; "." stands for the files beside them.
INNER_FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "costs": (("public",), ("bytes",), ("work",), ("plans",), ("claims",), (".",)),
    "testing": (("independent",), ("bank",), ("subject",), ("feeds",), ("verdict",), ("checks",), (".",)),
}
FORBIDDEN_IMPORTS = {("transformer", "caches"), ("transformer", "counting"), ("caches", "transformer")}
OTHER_PRODUCTS = {
    "einsum",
    "dot",
    "tensordot",
    "inner",
    "outer",
    "vdot",
    "vecdot",
    "matvec",
    "vecmat",
    "kron",
    "linalg",
}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: use absolute imports"
            if node.module == "kvsim":
                found += [f"kvsim.{alias.name}" for alias in node.names if alias.name in FLOOR]
            else:
                found.append(node.module)
    return found


def products_in(tree: ast.AST) -> list[str]:
    """Every matrix product other than `ops.matmul` or `self.matmul`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            found.append(f"line {node.lineno}: @")
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in OTHER_PRODUCTS:
            found.append(f"line {node.lineno}: {name}")
        if name == "matmul":
            owner = node.value if isinstance(node, ast.Attribute) else None
            if not (isinstance(owner, ast.Name) and owner.id in ("ops", "self")):
                found.append(f"line {node.lineno}: matmul of a namespace")
    return found


def test_one_multiplication() -> None:
    for file in FILES:
        check_products(file)


def check_products(file: Path) -> None:
    found = products_in(parse(file))
    if room_of(file) in ("arrays", "benchmark"):  # these call the libraries directly
        assert [name for name in found if not name.endswith("matmul of a namespace")] == []
    elif file.name == "ops.py":
        assert len(found) == 1, f"ops.py multiplies in one place, found {found}"
    else:
        assert found == []


def test_the_search_for_products_finds_them() -> None:
    sources = ["a @ b", "a @= b", "xp.einsum('ij,jk', a, b)", "np.dot(a, b)", "xp.matmul(a, b)", "self.xp.matmul(a, b)"]
    assert all(products_in(ast.parse(source)) for source in sources)
    assert products_in(ast.parse("ops.matmul('scores', a, b)")) == []


def modules_of(tree: ast.AST) -> set[str]:
    """The modules of the package that a file imports; `from kvsim.a import b` is `kvsim.a.b` where that is a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in names}
    return found & MODULES.keys()


def upward(room: str, imported: str, floors: dict[str, int]) -> bool:
    """Whether `room` imports from another room of its own floor or from a higher one."""
    return room != imported and floors[imported] >= floors[room]


def test_imports_flow_downwards() -> None:
    for file in FILES:
        check_imports(file)


def check_imports(file: Path) -> None:
    room = room_of(file)
    if room == "__init__":
        return  # imports lazily: see test_import_loads_nothing
    for module in modules_of(parse(file)):
        if module == "kvsim":
            assert room in ("cli", "schemas"), (
                f"{file.name} imports kvsim itself: only cli and schemas may, for the version"
            )
            continue
        imported = module.split(".")[1]
        assert not upward(room, imported, FLOOR), f"{room} (floor {FLOOR[room]}) imports {module}"
        assert (room, imported) not in FORBIDDEN_IMPORTS, f"{room} must not import {imported}"


@pytest.mark.parametrize("room", INNER_FLOORS)
def test_inner_imports_flow_downwards(room: str) -> None:
    floor = {inner: number for number, inners in enumerate(INNER_FLOORS[room], start=1) for inner in inners}
    for module, file in MODULES.items():
        if module.split(".")[1:2] != [room]:
            continue
        inner = inner_room(module)
        for imported in modules_of(parse(file)):
            if imported.split(".")[1:2] == [room]:
                assert not upward(inner, inner_room(imported), floor), f"{module} imports {imported}"


def inner_room(module: str) -> str:
    """The folder inside its room that a module belongs to, or "." for a file beside the folders."""
    parts = module.split(".")
    path = PACKAGE.joinpath(*parts[1:3])
    return parts[2] if len(parts) > 2 and path.is_dir() else "."


def find_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan, SIAM J. Comput. 1(2), 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                cycles.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return cycles


def test_no_import_cycle() -> None:
    graph = {module: modules_of(parse(file)) - {module} for module, file in MODULES.items() if module != "kvsim"}
    known = {module: {other for other in others if other in graph} for module, others in graph.items()}
    assert find_cycles(known) == []


def test_the_search_for_cycles_finds_them() -> None:
    assert find_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert find_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert upward("arrays", "costs", FLOOR)
    assert upward("caches", "transformer", FLOOR)
    assert not upward("costs", "arrays", FLOOR)


def file_of(module: str) -> Path | None:
    """The file of a module of the package."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def reached_from(modules: list[str]) -> set[str]:
    """These modules and all modules of the package that they import, directly or indirectly."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        file = file_of(module)
        if module not in reached and module.startswith("kvsim.") and file is not None:
            reached.add(module)
            waiting += imports_of(parse(file))
    return reached


INDEPENDENT = ("independent.attention", "independent.decoder", "independent.rows")


def test_the_independent_decoder_shares_nothing_with_the_model() -> None:
    """The decoder that the model is checked against uses the same config, and none of the code that computes."""
    bank = [f"bank.{file.stem}" for file in (PACKAGE / "testing" / "bank").glob("*.py") if file.stem != "__init__"]
    reached = reached_from([f"kvsim.testing.{name}" for name in (*INDEPENDENT, "bank", *bank)])
    assert len(bank) >= 7
    assert {module.split(".")[1] for module in reached} <= {"config", "errors", "testing", "text", "weights"}
    own = {module.split(".")[2] for module in reached if module.startswith("kvsim.testing.")}
    assert own == {"bank", "independent"}
    assert "kvsim.transformer.attention" in reached_from(
        ["kvsim.testing.feeds.plain_attention"]
    )  # the search does find such an import


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} == set(FLOOR)
    assert sorted(room for rooms in FLOORS for room in rooms) == sorted(FLOOR), "a room is listed on two floors"


def rows_of(page: str, columns: int) -> list[list[str]]:
    """The cells of the page's table rows with `columns` columns, without their backticks; headings left out."""
    text = (PACKAGE.parent / page).read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [[cell.replace("`", "") for cell in row] for row in rows if len(row) == columns and "`" in "".join(row)]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_on_structure_is_true(language: str) -> None:
    """docs/*/structure.md names every room on its floor, lowest first, and what it imports from the second floor up;
    and every room inside a room, where these have floors in their order."""
    page = f"docs/{language}/structure.md"
    imports: dict[str, set[str]] = {room: set() for room in FLOOR}
    for file in FILES:
        if (room := room_of(file)) in FLOOR:
            found = {module.split(".")[1] for module in modules_of(parse(file)) if module != "kvsim"}
            imports[room] |= {other for other in found - {room} if FLOOR[other] > 1}
    names = {room: f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py" for room in FLOOR}
    wanted = [[str(floor), names[room], ", ".join(sorted(imports[room]))] for room, floor in FLOOR.items()]
    assert [[floor, room, imported] for floor, room, _, imported in rows_of(page, 4)] == wanted

    inside = [room for room, _ in rows_of(page, 2)]
    folders = {
        file.parent.relative_to(PACKAGE).as_posix() for file in FILES if len(file.relative_to(PACKAGE).parts) > 2
    }
    assert sorted(inside) == sorted(f"{folder}/" for folder in folders)
    for room, floors in INNER_FLOORS.items():
        ordered = [f"{room}/{inner}/" for inners in floors for inner in inners if inner != "."]
        assert [name for name in inside if name.startswith(f"{room}/")] == ordered


# Folders with one file per entry: a family, a command, a view, a kind of mistake.
TABLES = {"learn/checkers", "loading/families", "cli", "views/terminal", "testing/bank"}


def test_folders_are_small() -> None:
    """At most 13 files at the top level, and at most 14 in any folder but those of TABLES."""
    assert len(list(PACKAGE.glob("*.py"))) <= 13
    folders = {file.parent for file in FILES} - {PACKAGE}
    counts = {folder.relative_to(PACKAGE).as_posix(): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > 14 and name not in TABLES} == {}


def test_functions_are_short() -> None:
    """At most 56 lines; at most 8 parameters, not counting keyword-only ones and the options of commands."""
    for file in FILES:
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.FunctionDef):
                where = f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}"
                assert node.end_lineno - node.lineno < 56, f"{where} is too long"
                is_command = room_of(file) == "cli" and node.decorator_list
                assert is_command or len(node.args.args) <= 8, f"{where} has {len(node.args.args)} parameters"


@pytest.mark.parametrize("room", ["transformer", "caches", "counting"])
def test_the_mathematics_imports_no_array_library(room: str) -> None:
    for file in (PACKAGE / room).rglob("*.py"):
        libraries = {m.split(".")[0] for m in imports_of(parse(file))} & {"numpy", "torch", "cupy", "array_api_compat"}
        assert not libraries, f"{file.name} imports {libraries}"


def test_the_transformer_never_branches_on_the_cache() -> None:
    for file in (PACKAGE / "transformer").glob("*.py"):
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.If | ast.IfExp):
                names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
                names |= {n.attr for n in ast.walk(node.test) if isinstance(n, ast.Attribute)}
                asked = {name for name in names if "cache" in name} | names & {"seen", "start", "stop"}
                assert not asked, f"{file.name}:{node.lineno} branches on the cache: {asked}"


def test_files_are_short() -> None:
    lengths = {str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_no_public_name_is_shadowed_by_a_module() -> None:
    """After every submodule is imported, each public name is still the object, e.g. `kvsim.trace` the function."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "kvsim."):
        library = {"kvsim.arrays.cupy_products": "cupy", "kvsim.testing.subject.torch_products": "torch"}.get(
            module.name
        )
        missing = library is not None and not importlib.util.find_spec(library)
        if not (missing or module.name.endswith("__main__")):
            importlib.import_module(module.name)
    for name in kvsim.__all__:
        value = getattr(kvsim, name)
        assert not isinstance(value, type(kvsim)), f"kvsim.{name} is a module"
    assert callable(kvsim.trace)
    assert callable(kvsim.load)
    assert set(kvsim.__all__) < set(dir(kvsim))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kvsim.nothing


def loaded_by(code: str) -> set[str]:
    """The modules that `code` imports in a new interpreter."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8")
    return set(done.stdout.splitlines()[-1].split())


def test_import_loads_nothing() -> None:
    assert loaded_by("import kvsim; kvsim.__version__; dir(kvsim)") == {"kvsim"}


def test_help_needs_no_numpy() -> None:
    code = "from kvsim.cli import COMMANDS, run\nfor a in ['--help'], *([name, '--help'] for name in COMMANDS): run(a)"
    assert not loaded_by(code) & {"numpy", "rich.table", "safetensors", "kvsim.ops", "matplotlib"}


def test_trace_imports_no_other_array_library() -> None:
    loaded = loaded_by("import kvsim; kvsim.trace('中')")
    assert not {m.split(".")[0] for m in loaded} & {
        "torch",
        "cupy",
        "array_api_compat",
        "array_api_strict",
        "tokenizers",
    }


def test_rooms_are_attributes() -> None:
    """`import kvsim; kvsim.testing.attention` works, and `dir(kvsim)` lists every public name and every room."""
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert set(dir(kvsim)) == {*kvsim.__all__, *rooms}
    loaded = loaded_by("import kvsim; assert callable(kvsim.testing.attention); kvsim.costs, kvsim.generation")
    assert "kvsim.testing" in loaded
