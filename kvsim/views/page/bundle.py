"""One HTML file from a template, a style sheet, modules and data, with a policy that permits nothing else.

The modules of static/ are plain ES modules that import each other by relative names. They are joined in the order of
their imports, without `import` and `export`; no two may export the same name (a test checks it).
"""

import hashlib
import html
import json
import re
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from kvsim.views.page.shorten import join_modules, take_names

FOLDER = Path(__file__).resolve().parent / "static"
_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"(\.[^"]+)";\n', re.M)


@cache
def read(name: str) -> str:
    """The text of a file of static/."""
    return (FOLDER / name).read_text(encoding="utf-8")


def order_modules(name: str, done: tuple[str, ...] = ()) -> tuple[str, ...]:
    """`name` and all modules that it imports, each after its own imports."""
    for path in _IMPORT.findall(read(name)):
        other = (FOLDER / name).parent.joinpath(path).resolve().relative_to(FOLDER).as_posix()
        if other not in done:
            done = order_modules(other, done)
    return done if name in done else (*done, name)


@cache
def bundle_script(name: str) -> str:
    """The module `name` and its imports as one script."""
    script = join_modules([_IMPORT.sub("", read(module)) for module in order_modules(name)])
    return re.sub(r'"--(\w+)"', lambda found: f'"--{_properties()[found[1]]}"', script)


@cache
def _properties() -> dict[str, str]:
    """The custom properties of the style sheet, each with a short name, the most frequent first."""
    found = re.findall(r"--(\w+)", read("page.css"))
    ordered = sorted(set(found), key=lambda name: (-found.count(name), name))
    return dict(zip(ordered, take_names(set()), strict=False))


@cache
def bundle_style(kind: str) -> str:
    """The style sheet, and that of the kind if it has one, without comments and spaces that it does not need, custom
    properties renamed."""
    own = f"kinds/{kind}.css"
    text = read("page.css") + (read(own) if (FOLDER / own).is_file() else "")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"--(\w+)", lambda found: f"--{_properties()[found[1]]}", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ?([{};,]) ?|(?<=[a-z-]:) (?=\S)", lambda found: found[1] or "", text)
    return text.replace(";}", "}").strip()


def hash_source(text: str) -> str:
    """A source of a Content-Security-Policy: the hash of an inline script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def make_policy(style: str, script: str) -> str:
    """Nothing is loaded, and nothing runs but this style and this script."""
    return (
        f"default-src 'none'; style-src {hash_source(style)}; script-src {hash_source(script)};"
        " base-uri 'none'; form-action 'none'"
    )


def escape_json(record: Any) -> str:
    """JSON for a script element: no `<`, so that no text can end the element; integers that a browser would round are
    strings."""
    text = json.dumps(_exact(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _exact(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(one) for one in value]
    return str(value) if isinstance(value, int) and abs(value) >= 2**53 else value


def fill_template(parts: dict[str, str]) -> str:
    """page.html with each {{name}} replaced, once: what is filled in is not searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read("page.html"))


def make_html(kind: str, data: dict[str, Any], still: str, *, title: str, language: str) -> bytes:
    """The whole file in UTF-8. `still`: HTML for browsers without scripts."""
    style, script = bundle_style(kind), bundle_script(f"kinds/{kind}.js")
    page = fill_template(
        {
            "lang": html.escape(language),
            "policy": make_policy(style, script),
            "title": html.escape(title),
            "style": style,
            "still": still,
            "data": escape_json(data),
            "script": script,
        }
    )
    return page.encode("utf-8", "backslashreplace")  # half a surrogate pair in a token, as JSON escapes it
