"""One HTML file from a template, a style sheet, modules and data, with a policy that permits nothing else.

The modules of static/ are plain ES modules that import each other by relative names. They are joined in the order of
their imports, without `import` and `export`, so that no two may have a top-level name in common (a test checks it).
"""

import hashlib
import html
import json
import re
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "static"
_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"(\.[^"]+)";\n', re.M)
# A string, a template, a regular expression after `(`, a comment on a line of its own; else runs of spaces.
_TOKENS = re.compile(
    r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|(?<=\()/(?:[^/\\\n]|\\.)+/[a-z]*)"""
    r"""|(?:^|(?<=\s))//[^\n]*|\s+"""
)


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


def _squeeze(script: str) -> str:
    """A script without comments on lines of their own, indentation and spaces around signs. Line ends stay."""

    def shorten(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1]
        return "\n" if "\n" in found[0] else "" if found[0].startswith("//") else " "

    text = re.sub(r"\n+", "\n", _TOKENS.sub(shorten, script))
    return _tighten(text, r"[{}()\[\];,<>=+*/?:&|!-]")


def _tighten(script: str, signs: str) -> str:
    """Spaces beside `signs` removed, outside of strings and templates. A space between two signs stays (a - -b)."""
    parts = re.split(r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|(?<=\()/(?:[^/\\\n]|\\.)+/[a-z]*)""", script)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(rf"(?<=[\w)\]}}\"'`]) (?={signs})|(?<={signs}) (?=[\w(\[{{\"'`])", "", parts[i])
    return "".join(parts)


@cache
def bundle_script(name: str) -> str:
    """The module `name` and its imports as one script."""
    modules = (re.sub(r"^export ", "", _IMPORT.sub("", read(module)), flags=re.M) for module in order_modules(name))
    return _squeeze("\n".join(modules)).strip()


@cache
def bundle_style(name: str = "page.css") -> str:
    """The style sheet without comments and spaces that it does not need."""
    text = re.sub(r"/\*.*?\*/", "", read(name), flags=re.S)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r" ?([{};,]) ?|(?<=[a-z-]:) (?=\S)", lambda found: found[1] or "", text).replace(";}", "}").strip()


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


def make_html(kind: str, data: dict[str, Any], still: str, *, title: str, language: str, generator: str) -> bytes:
    """The whole file in UTF-8. `still`: HTML for browsers without scripts."""
    style, script = bundle_style(), bundle_script(f"kinds/{kind}.js")
    page = fill_template(
        {
            "lang": html.escape(language),
            "policy": make_policy(style, script),
            "generator": html.escape(generator),
            "title": html.escape(title),
            "style": style,
            "still": still,
            "data": escape_json(data),
            "script": script,
        }
    )
    return page.encode("utf-8", "backslashreplace")  # half a surrogate pair in a token, as JSON escapes it
