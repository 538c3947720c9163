"""Pictures of a trace: the files of docs/pictures byte for byte, as many cells as counted, tokens of any text."""

import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import kvsim
from kvsim.cli import run
from kvsim.errors import UsageError
from kvsim.i18n.language import words
from kvsim.text import Piece
from kvsim.views.picture.cells import COLORS
from kvsim.views.picture.elements import fill_in, mark_text
from kvsim.views.picture.trace import MOST_STEPS, draw_step, draw_steps
from tests.models import demo

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
LANGUAGES = ("en", "zh")
HOSTILE = (
    "</script>", "<!-- ]]> &amp; {x} \"'", "\u202eabc\u200f", "שלום", "\x00\x1b[31m\ud800", "x" * 10_000, "中" * 10_000,
    " the",
)  # fmt: skip


def letters(svg):
    """How many cells of each state are drawn, legend included."""
    groups = ET.fromstring(svg).iter(f"{SVG}g")
    return Counter(t.text for g in groups if g.get("text-anchor") == "middle" for t in g.iter(f"{SVG}text"))


def all_text(svg):
    return [" ".join("".join(t.itertext()).split()) for t in ET.fromstring(svg).iter(f"{SVG}text")]


def with_texts(trace, texts):
    """The trace with other texts of its tokens, one after the other."""
    steps = [
        replace(step, fed=(Piece(0, texts[i % len(texts)]),), next=Piece(0, texts[(i + 1) % len(texts)]))
        for i, step in enumerate(trace.steps)
    ]
    return replace(trace, steps=tuple(steps))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "options"), [("trace", ["--step", "7"]), ("steps", [])])
def test_the_pictures_of_the_documentation(name, options, language, tmp_path, capsys):
    """`KVSIM_GOLDEN=write` makes them again."""
    file, made = PICTURES / f"{name}.{language}.svg", tmp_path / "made.svg"
    assert run(["trace", "中华人民", *options, "--svg", str(made), "--lang", language]) == 0
    if os.environ.get("KVSIM_GOLDEN") == "write":
        file.write_bytes(made.read_bytes())
    assert made.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("page", "language"), [("README.md", "en"), ("README.zh-CN.md", "zh")])
def test_the_first_picture_of_the_readme_is_made_by_the_command_beside_it(page, language):
    text = (PICTURES.parents[1] / page).read_text(encoding="utf-8")
    file = f"docs/pictures/trace.{language}.svg"
    command = f'kvsim trace "中华人民" --step 7 --svg {file}' + (" --lang zh" if language == "zh" else "")
    assert re.findall(r"!\[.*\]\((.*)\)", text) == [file]
    assert f"`{command}`" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_cell_is_drawn_once(language):
    trace = kvsim.trace("中华人民", demo())
    drawn = letters(draw_steps(trace, words(language))) - Counter(COLORS.keys())  # the legend has each once
    before, after = trace.totals
    assert drawn["#"] == before.useful_cells + after.useful_cells == 84 + 28
    assert drawn["x"] == before.score_cells - before.useful_cells == 56
    assert drawn["K"] == drawn["V"] == (before.projected_rows + after.projected_rows) // 3 == 28 + 7
    assert drawn["c"] == 2 * 21
    text = " ".join(all_text(draw_steps(trace, words(language))))
    assert all(count in text for count in ("140", "28", "80%", "84", "7×7 = 49", "1×7 = 7", "3,584 B"))


def test_one_step_says_what_the_terminal_says():
    trace = kvsim.trace("中华人民", demo())
    assert all_text(draw_step(trace, words("en")))[0] == "step 7/7fed 国, output 成"
    assert letters(draw_step(trace, words("en"), 4)) == Counter({"#": 15, "x": 7, "c": 7, "K": 6, "V": 6})
    zh = all_text(draw_step(trace, words("zh"), 4))
    assert {"无缓存", "有缓存", "分数格：4×4 = 16", "分数格：1×4 = 4"} <= set(zh)
    assert draw_steps(kvsim.trace("中", demo(), 1), words("en")) == draw_step(kvsim.trace("中", demo(), 1), words("en"))
    with pytest.raises(UsageError, match="there is no step 8"):
        draw_step(trace, words("en"), 8)


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_text_is_shown_and_nothing_is_run_or_loaded(language):
    trace = with_texts(kvsim.trace("中", demo(), len(HOSTILE)), HOSTILE)
    plain = letters(draw_steps(kvsim.trace("中", demo(), len(HOSTILE)), words(language)))
    for svg in (draw_steps(trace, words(language)), draw_step(trace, words(language))):
        tree = ET.fromstring(svg.encode())  # valid XML
        assert {element.tag.removeprefix(SVG) for element in tree.iter()} <= {
            "svg",
            "g",
            "rect",
            "path",
            "text",
            "tspan",
        }
        assert not re.search(r"\b(id|href|style|class|on\w+|textLength)=|url\(|@import", re.sub(">[^<]*<", "><", svg))
        assert max(map(len, all_text(svg))) < 120
        assert not set(svg) & set("\x00\x1b\u202e\u200f\ud800")
    assert letters(draw_steps(trace, words(language))) == plain
    assert "\\u202eabc" in draw_steps(trace, words(language))


def test_every_text_becomes_xml():
    assert mark_text('a<b>&"\x00\x1b\u202e\n') == 'a&lt;b&gt;&amp;"\\x00\\x1b\\u202e↵'
    assert mark_text("א") == '<tspan unicode-bidi="isolate" direction="ltr">א</tspan>'
    assert fill_in("<{a}>", a="{b}<") == "&lt;{b}&lt;&gt;"


def test_a_long_text_is_drawn_from_its_end():
    trace = kvsim.trace("中" * 40, demo(), 2, "prefill")
    svg = draw_step(trace, words("en"), 1)
    assert "(16 earlier tokens not drawn)" in svg
    assert "40×40 = 1,600" in svg
    assert letters(svg)["K"] == 2 * 24 + 1
    assert letters(draw_steps(trace, words("en")))["K"] == 3 * 16 + 1 + 1
    assert len(svg) < 200_000


def test_too_many_steps_are_refused_before_they_run(tmp_path, capsys, monkeypatch):
    from kvsim.comparisons import trace as module

    taken, compare = [], module._compare_steps
    monkeypatch.setattr(module, "_compare_steps", lambda *given: (taken.append(1) or s for s in compare(*given)))
    file = tmp_path / "a.svg"
    argv = ["trace", "中", "-n", str(MOST_STEPS + 1), "--svg", str(file), "--lang", "en"]
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), file.exists(), len(taken)) == ("", 1, False, 1)
    assert "draws at most 16, this trace has 17: choose one with --step" in err
    assert run([*argv, "--step", "17"]) == 0
    assert file.exists()


def test_a_picture_beside_any_other_output(tmp_path, capsys):
    file = tmp_path / "a.svg"
    for more in (["--json", "--step", "1"], ["--show", "table", "--step", "1"], ["--ascii", "--step", "1"]):
        assert run(["trace", "中", "-n", "1", *more, "--svg", str(file), "--lang", "en"]) == 0
        assert file.read_text(encoding="utf-8") == draw_step(kvsim.trace("中", demo(), 1), words("en"))
        file.unlink()
    assert run(["trace", "中", "--show", "table", "--step", "1", "--lang", "en"]) == 2


def test_the_sign_for_a_part_of_a_character_is_explained():
    """In step 2 the model would choose a part of a character, which is not fed."""
    trace = kvsim.trace("中华人民", demo())
    assert "⋯" not in draw_steps(trace, words("en"))
    steps = list(trace.steps)
    steps[1] = replace(steps[1], next=Piece(0, "<0xE4>"))
    cut = replace(trace, steps=tuple(steps))
    note = "⋯ stands for a part of a character; the token that completes it shows it."
    for svg in (draw_steps(cut, words("en")), draw_step(cut, words("en"), 2)):
        assert all_text(svg).count(note) == 1
    assert note not in all_text(draw_step(cut, words("en"), 1))
