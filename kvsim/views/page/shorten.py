"""Scripts made shorter: no comments and spaces, and names of variables of one or two letters.

For the scripts of static/ only, which end every statement with a semicolon, write regular expressions only after `(`
and methods only in classes, and use no global that GLOBALS lacks (a test checks that each name is declared). Names of
properties stay.
"""

import re
from collections.abc import Iterator
from itertools import count, product
from string import ascii_letters

KEYWORDS = frozenset({
    "as", "async", "await", "break", "case", "catch", "class", "const", "constructor", "continue", "default",
    "delete", "do", "else", "export", "extends", "false", "finally", "for", "from", "function", "get", "if",
    "import", "in", "instanceof", "let", "new", "null", "of", "return", "set", "static", "super", "switch", "this",
    "throw", "true", "try", "typeof", "var", "void", "while", "yield",
})  # fmt: skip
GLOBALS = frozenset({
    "Array", "BigInt", "Float32Array", "JSON", "Map", "Math", "Number", "Object", "ResizeObserver", "Set", "String",
    "URLSearchParams", "Uint32Array", "addEventListener", "atob", "clearInterval", "document", "history",
    "location", "matchMedia", "navigator", "setInterval", "undefined",
})  # fmt: skip
_TOKEN = re.compile(
    r"""\s+|//[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|(?<=\()/(?:[^/\\\n]|\\.)+/[a-z]*)"""
    r"""|(?P<word>[A-Za-z_$][\w$]*)|(?P<number>\d[\d_.]*(?:e[+-]?\d+)?n?)|(?P<sign>\.\.\.|\?\.|=>|\+\+|--|`|.)""",
    re.S,
)


def split(script: str) -> Iterator[tuple[str, str]]:
    """The tokens of a script as (kind, text): "string", "word", "number", "sign". A template is split into the strings
    around its expressions and the tokens in them."""
    at = 0
    depths: list[int] = []  # of braces inside the expressions of open templates
    while at < len(script):
        found = _TOKEN.match(script, at)
        assert found is not None
        at, kind, text = found.end(), found.lastgroup, found[0]
        if text == "`" or (text == "}" and depths and depths[-1] == 0):
            if text == "}":
                depths.pop()
            end = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.S).match(script, at)
            assert end is not None, "a template is not closed"
            if end[0].endswith("${"):
                depths.append(0)
            at, kind, text = end.end(), "string", text + end[0]
        elif text in "{}" and depths:
            depths[-1] += 1 if text == "{" else -1
        if kind is not None:
            yield kind, text


def _is_property(tokens: list[tuple[str, str]], i: int, brackets: list[str]) -> bool:
    """Is the word at `i` the name of a property: after a dot, a key, or a method of a class?"""
    before, after = tokens[i - 1][1] if i else "", tokens[i + 1][1]
    if before in (".", "?."):
        return True
    inside = brackets[-1] if brackets else ""
    return (inside == "{" and before in ("{", ",") and after == ":") or (inside == "class" and after == "(")


def find_variables(tokens: list[tuple[str, str]]) -> Iterator[tuple[int, bool]]:
    """The index of each word that names a variable, and whether it also names a property ({a} for {a: a})."""
    brackets: list[str] = []
    in_class = False  # between the word class and its brace
    for i, (kind, text) in enumerate(tokens):
        if kind == "string" and text[0] == "}":
            brackets.pop()
        if kind == "string" and text.endswith("${"):
            brackets.append("$")
        elif kind == "sign" and text in "([{":
            brackets.append("class" if text == "{" and in_class else text)
            in_class = in_class and text != "{"
        elif kind == "sign" and text in ")]}":
            brackets.pop()
        elif text == "class":
            in_class = tokens[i + 1][0] == "word" and tokens[i + 1][1] not in KEYWORDS and tokens[i - 1][1] not in "{,."
        if kind != "word" or text in KEYWORDS or _is_property(tokens, i, brackets):
            continue
        short = bool(brackets) and brackets[-1] == "{" and tokens[i - 1][1] in "{," and tokens[i + 1][1] in ",}"
        yield i, short


def find_top_level(tokens: list[tuple[str, str]]) -> dict[str, bool]:
    """The names that a module declares at its top level, and whether it exports them."""
    found, depth = {}, 0
    for i, (kind, text) in enumerate(tokens):
        if kind == "string":
            depth += (text.endswith("${")) - (text[0] == "}")
        elif kind == "sign":
            depth += (text in "([{") - (text in ")]}")
        elif depth == 0 and text in ("const", "let", "function", "class"):
            name = tokens[i + 1][1]
            assert tokens[i + 1][0] == "word", "declare one name at a time at the top of a module"
            found[name] = i > 0 and tokens[i - 1][1] == "export"
    return found


def rename(tokens: list[tuple[str, str]], names: dict[str, str]) -> list[tuple[str, str]]:
    """The tokens with other names of variables; {a} becomes {a: b}."""
    shorts = dict(find_variables(tokens))
    renamed = []
    for i, (kind, text) in enumerate(tokens):
        new = names.get(text) if i in shorts else None
        if new is None:
            renamed.append((kind, text))
            continue
        if shorts[i]:
            renamed += [("word", text), ("sign", ":")]
        renamed.append(("word", new))
    return renamed


def take_names(taken: set[str]) -> Iterator[str]:
    """Short names that are not taken."""
    for size in count(1):
        for letters in product(ascii_letters, repeat=size):
            if (name := "".join(letters)) not in taken:
                yield name


def join_modules(modules: list[str]) -> str:
    """Modules without imports, in order, as one script in one line: names that a module does not export are its own,
    and all variables are short, the most frequent ones shortest."""
    every: list[tuple[str, str]] = []
    for number, module in enumerate(modules):
        tokens = list(split(module))
        top = find_top_level(tokens)
        own = {name: f"{name}${number}" for name, exported in top.items() if not exported}
        every += [token for token in rename(tokens, own) if token != ("word", "export")]
    counts: dict[str, int] = {}
    for i, _ in find_variables(every):
        if every[i][1] not in GLOBALS:
            counts[every[i][1]] = counts.get(every[i][1], 0) + 1
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return _join(rename(every, dict(zip(ordered, take_names(set(KEYWORDS | GLOBALS)), strict=False))))


def _drop(tokens: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The tokens without semicolons and commas before a closing bracket, and parentheses around one parameter;
    `const` as `let`."""
    texts = [text for _, text in tokens]
    for i, (kind, text) in enumerate(tokens):
        after = texts[i + 1][0] if i + 1 < len(texts) else ""
        is_last = (text == ";" and after == "}") or (text == "," and after in (")", "]", "}"))
        opens = text == "(" and texts[i + 2 : i + 4] == [")", "=>"] and tokens[i + 1][0] == "word"
        closes = text == ")" and texts[i + 1 : i + 2] == ["=>"] and texts[i - 2] == "(" and tokens[i - 1][0] == "word"
        if not (kind == "sign" and (is_last or opens or closes)):
            yield kind, "let" if text == "const" and kind == "word" else text


def _join(tokens: list[tuple[str, str]]) -> str:
    """The tokens with spaces only between two words, and between signs that would become another one."""
    parts = [""]
    for kind, text in _drop(tokens):
        last = parts[-1][-1:]
        words = kind in ("word", "number") and bool(last) and (last.isalnum() or last in "_$")
        if words or (kind == "sign" and last and last == text[0] and last in "+-/"):
            parts.append(" ")
        parts.append(text)
    return "".join(parts)
