"""The page of `kvsim verify` without a browser: its numbers are those of --json and of the failure."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from kvsim.cli import run
from kvsim.i18n.language import words
from kvsim.testing.verdict.sections import render
from kvsim.views.json.oracle import verify_dict
from kvsim.views.page import bundle
from kvsim.views.page.kinds import to_html
from tests.views.page.checks import broken, hostile_failure, many_keys, right, wrong_attention
from tests.views.page.reading import take_apart

WRONG_CACHE = Path(__file__).parents[3] / "examples" / "wrong_cache.py"
RAISES = "class it:\n    def update(self, layer, keys, values):\n        raise ValueError('</script><b>')\n"


def test_the_page_has_the_facts_and_both_matrices():
    found = wrong_attention()
    data = take_apart(found)["data"]
    assert data["facts"] == json.loads(json.dumps(verify_dict(found.target, 0, found)))
    assert data["facts"]["diagnosis"] == ["mask_top_left"]
    for side, matrix in (("got", found.failure.weights.got_TS), ("expected", found.failure.weights.expected_TS)):
        assert np.array_equal([[bit == "1" for bit in row] for row in data["grid"][side]], matrix)
    assert data["grid"]["got"] != data["grid"]["expected"]
    assert (data["grid"]["queries"], data["grid"]["keys"]) == (list("共和国"), list("中华人民共和国"))
    first, difference = found.failure.first, found.failure.difference
    assert data["numbers"] == {
        "wrong": difference.wrong, "total": difference.total, "largest": difference.largest,
        "allowed": found.failure.allowed.value, "got": first.got, "expected": first.expected,
    }  # fmt: skip


def test_of_many_keys_the_last_ones_are_drawn():
    grid = take_apart(many_keys())["data"]["grid"]
    assert (grid["skipped"], grid["keys"][0], grid["queries"][0]) == (36, "36", "36")
    assert grid["expected"][0] == "1" + 63 * "0"
    assert grid["got"][0] == "111" + 61 * "0"


def test_every_sentence_of_the_report_is_there_in_both_languages():
    found = wrong_attention()
    texts = take_apart(found)["data"]["texts"]
    for index, language in enumerate(("en", "zh")):
        report = render(found.failure, words(language))
        assert texts["report"][index] == report
        shown = "".join(texts[key][index] for key in texts if key.startswith("lines_"))
        headline = take_apart(found)["data"]["headline"][language]
        said = re.sub(r"\s", "", headline + shown)
        for line in report.split("\n"):
            is_matrix = not line or re.match(r" {4}| {2}\S.*#", line)
            assert is_matrix or re.sub(r"\s", "", line) in said, line
    asked = set(re.findall(r'\bt\("(\w+)"', "".join(map(bundle.read, bundle.order_modules("kinds/verify.js")))))
    assert asked - {"cell_", "sign_", "tab_", "outcome_", "grid_", "lines_"} <= texts.keys()
    same = {key for key, (en, zh) in texts.items() if en == zh and en}
    assert same == set()


def test_what_is_right_and_what_cannot_be_checked():
    data = take_apart(right())["data"]
    assert data["headline"] == {"en": "mine.py:Cache: right, also after crop", "zh": data["headline"]["zh"]}
    assert (data["grid"], data["numbers"], data["facts"]["outcome"], data["facts"]["seed"]) == (None, None, "pass", 3)
    assert take_apart(broken())["data"]["facts"]["outcome"] == "cannot be checked"


@pytest.mark.parametrize("make", [wrong_attention, hostile_failure, right, broken])
def test_nothing_but_the_pages_script_can_run(make):
    page = take_apart(make())
    assert page["policy"].startswith("default-src 'none';")
    assert "unsafe" not in page["policy"]
    assert page["text"].count("<script") == 2
    assert "<img" not in page["text"]
    assert "\u202e" not in page["text"]
    assert len(to_html(make())) < 40_000 + 10 * len(make().text)


def test_without_scripts_the_report_is_shown():
    still = take_apart(wrong_attention(), "zh")["still"]
    assert "查询 共  #  ?  ?  ?  ?  .  ." in still
    assert "[mask_top_left]" in still


def test_the_command_writes_what_json_says(tmp_path, capsys):
    """One check, its page and its JSON; the exit code is as without a page."""
    file = tmp_path / "page.html"
    assert run(["verify", f"{WRONG_CACHE}:WrongCache", "--html", str(file), "--json", "--lang", "zh"]) == 1
    record = json.loads(capsys.readouterr().out)
    text = file.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert data["facts"] == record
    assert data["texts"]["report"][1] == record["text"]
    assert data["grid"]["got"][6] == "1110001"  # decode_does_not_append
    assert data["grid"]["expected"][6] == "1111111"
    assert '<html lang="zh-CN">' in text


def test_a_check_that_raises_has_a_page(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(RAISES)
    assert run(["verify", f"{tmp_path / 'mine.py'}:it", "--html", str(tmp_path / "page.html"), "--lang", "en"]) == 1
    out = capsys.readouterr().out
    assert "</script><b>" in out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "</script><b>" not in text
    assert "\\u003c/script>\\u003cb>" in text


def test_a_file_that_cannot_be_written_is_refused_before_the_check(tmp_path, capsys):
    target = "missing.py:it"  # would be refused, too, but later
    assert run(["verify", target, "--html", str(tmp_path / "no" / "page.html")]) == 4
    assert "there is no folder" in capsys.readouterr().err
    assert run(["verify", target, "--open"]) == 2
