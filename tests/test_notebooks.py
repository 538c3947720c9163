"""The notebooks in examples/: the same code in both languages, and the outputs that a run gives now.

After a change: `python -m tests.notebooks`, and read the diff. CI also runs them with nbmake.
"""

import json
import re
from itertools import pairwise

import pytest

from tests.notebooks import EXAMPLES, METADATA, NOTEBOOKS, execute, language_of, read
from tests.views.test_golden import masked

PAIRS = [(path, path.with_name(f"{path.stem}.zh-CN.ipynb")) for path in NOTEBOOKS if language_of(path) == "en"]
VARIES = re.compile(r"0x[0-9a-f]{6,}|/(?:home|root|tmp|work|Users)/|\d\d:\d\d:\d\d")


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def shown(output):
    """One output as text, without measured numbers, and without the scripts of a page in it, which have tests of their
    own: a change of a page would change the notebooks, too."""
    return masked(re.sub(r"srcdoc='[^']*'", "", json.dumps(output, ensure_ascii=False, sort_keys=True)))


def outputs(notebook):
    """Everything that the cells printed and showed."""
    return [[shown(output) for output in cell["outputs"]] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_four_in_two_languages():
    assert [path.stem for path, _ in PAIRS] == ["caches", "sizes", "tour", "your_cache"]
    assert sorted(path for pair in PAIRS for path in pair) == NOTEBOOKS


@pytest.mark.parametrize(("en", "zh"), PAIRS, ids=lambda path: path.stem)
def test_both_languages_have_the_same_code_and_content(en, zh):
    one, other = read(en), read(zh)
    assert sources(one, "code") == sources(other, "code")
    assert [cell["cell_type"] for cell in one["cells"]] == [cell["cell_type"] for cell in other["cells"]]
    for text, translated in zip(sources(one, "markdown"), sources(other, "markdown"), strict=True):
        assert re.findall(r"^#+ ", text, re.M) == re.findall(r"^#+ ", translated, re.M)
        assert re.findall(r"`[^`]+`", text) == re.findall(r"`[^`]+`", translated)
        assert re.search("[一-鿿]", translated)
        figures = (re.findall(r"\d[\d,]*\d", re.sub(r"\]\([^)]*\)", "", part)) for part in (text, translated))
        assert sorted(next(figures)) == sorted(next(figures))
        links = (re.findall(r"\]\(([^)]+)\)", part) for part in (text, translated))
        for link, in_chinese in zip(*links, strict=True):
            assert in_chinese.replace(".zh-CN", "").replace("docs/zh", "docs/en") == link
            assert (EXAMPLES / link).exists()
            assert (EXAMPLES / in_chinese).exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_as_it_ran_without_what_varies(path):
    notebook = read(path)
    assert (notebook["metadata"], notebook["nbformat"], notebook["nbformat_minor"]) == (METADATA, 4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    text = path.read_text(encoding="utf-8")
    assert VARIES.findall(text) == []
    assert '"output_type": "error"' not in text
    assert '"name": "stderr"' not in text
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown"
    assert all("markdown" in pair for pair in pairwise(kinds)) or path.stem.startswith(("caches", "sizes"))


@pytest.mark.dev
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_stored_outputs_are_those_of_a_run_now(path):
    assert outputs(read(path)) == outputs(execute(path))
