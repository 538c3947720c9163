"""The pages of compare and chat without a browser: their numbers are those of --json, and no text can run."""

import json
import re

import pytest

import kvsim
from kvsim.cli import run
from kvsim.errors import UsageError
from kvsim.views.page import bundle
from kvsim.views.page.kinds import to_html
from tests.models import demo
from tests.views.page.reading import take_apart
from tests.views.page.talks import (
    alone,
    edited,
    hostile_chat,
    hostile_comparison,
    long_comparison,
    restarted,
    sixteen,
    whole_prompt,
)

COMPARISONS = [sixteen, whole_prompt, hostile_comparison, long_comparison]
CHATS = [edited, restarted, hostile_chat]


@pytest.mark.parametrize("make", COMPARISONS)
def test_every_number_of_a_comparison_is_that_of_the_json(make):
    comparison = make()
    data, record = take_apart(comparison)["data"], comparison.to_dict()
    costs = ("cache", "lossless", "logical_bytes", "allocated_bytes", "metadata_bytes", "counts")
    assert {name: data["reference"][name] for name in costs} == record["reference"]
    assert len(data["runs"]) == len(record["policies"])
    for told, policy in zip(data["runs"], record["policies"], strict=True):
        assert {name: told[name] for name in costs} == {name: policy[name] for name in costs}
        for name in ("all", "new"):
            assert told[name] == {key: x for key, x in policy[name].items() if key != "relative_diff"}
        assert told["first_change"] == policy["first_change"]
        columns = {name: [row[name] for row in policy["rows"]] for name in policy["rows"][0]}
        assert told["rows"] == columns
        for name, total in told["counts"].items():
            assert sum(told["steps"][name]) == total
        for name in ("logical_bytes", "allocated_bytes", "metadata_bytes"):
            assert told["steps"][name][-1] == told[name]
    assert len(data["tokens"]) == data["stops"][-1] == len(record["policies"][0]["rows"])
    assert {str(row["choice"]) for policy in record["policies"] for row in policy["rows"]} <= data["vocabulary"].keys()


def test_every_fate_is_that_of_the_record():
    for comparison in (sixteen(), whole_prompt()):
        for told, found in zip(take_apart(comparison)["data"]["runs"], comparison.runs, strict=True):
            fates = [[told["fates"][i] for i in layer] for layer in told["fate_of"]]
            assert fates == [[list(head) for head in layer] for layer in found.history.evicted]
    sinks, h2o = take_apart(sixteen())["data"]["runs"]
    assert (len(sinks["fates"]), len(h2o["fates"])) == (1, 4)  # equal ones are stored once


@pytest.mark.parametrize("make", CHATS)
def test_every_number_of_a_chat_is_that_of_the_json(make):
    chat = make()
    data, record = take_apart(chat)["data"], chat.to_dict()
    for told, turn in zip(data["lines"], record["turns"], strict=True):
        names = ("kind", "cached", "new", "reused", "fresh", "max_abs_diff", "allowed_diff", "agrees", "identical")
        assert {name: told[name] for name in names} == {name: turn[name] for name in names}
        assert (len(told["text"]), len(told["reply"])) == (len(turn["ids"]), len(turn["reply_ids"]))
        assert (told["restart"] is None) == (turn["restart"] is None)
        if turn["restart"] is not None:
            assert told["restart"][0] == turn["restart"]
    assert data["totals"] == record["totals"]
    for i, told in enumerate(data["lines"]):
        sizes = [len(data["lines"][j]["text"]) + len(data["lines"][j]["reply"]) for j in told["before"]]
        assert sum(sizes) == told["start"]
        sizes = [len(data["lines"][j]["text"]) + len(data["lines"][j]["reply"]) for j in told["conversation"]]
        assert told["dropped"] == 0 or told["cached"] + told["dropped"] == sum(sizes) - 1, i


def test_tokens_of_a_chat_without_pieces_are_ids():
    from dataclasses import replace

    data = take_apart(replace(edited(), pieces=()))["data"]
    assert data["lines"][0]["text"][0] == f"[{edited().lines[0].turn.ids[0]}]"


def test_a_page_needs_the_history():
    with pytest.raises(UsageError, match="history=True"):
        to_html(kvsim.compare("中华", demo(), ["h2o:2"], 1))


def test_a_comparison_with_nothing_but_the_reference():
    data = take_apart(alone())["data"]
    assert data["runs"] == []


@pytest.mark.parametrize("make", [hostile_comparison, hostile_chat])
def test_no_text_ends_its_element(make):
    page = take_apart(make())
    assert page["text"].count("<script") == 2
    assert "<img" not in page["text"]
    assert "\u202e" not in page["text"]
    assert "<" not in re.search(r'id="data">(.*?)</script>', page["text"], re.S)[1]
    assert page["policy"].startswith("default-src 'none';")
    assert "unsafe" not in page["policy"]
    assert " style=" not in page["text"].replace(page["script"], "")


@pytest.mark.parametrize(("kind", "make"), [("compare", sixteen), ("chat", edited)])
def test_both_languages_have_every_text(kind, make):
    texts = take_apart(make())["data"]["texts"]
    scripts = "".join(map(bundle.read, bundle.order_modules(f"kinds/{kind}.js")))
    asked = set(re.findall(r'\bt\("(\w+)"', scripts))
    assert asked - {"state_", "tab_"} <= texts.keys()
    assert {key for key, (english, chinese) in texts.items() if english == chinese} == set()


@pytest.mark.parametrize(("make", "most"), [(sixteen, 62_000), (edited, 48_000)])
def test_a_page_is_light(make, most):
    size = len(to_html(make(), "zh"))
    assert size < most, f"{size:,} bytes"


def test_without_scripts_the_rows_and_the_tables_are_shown():
    still = take_apart(sixteen(), "zh")["still"]
    held = [sum(e == 0 for e in found.history.evicted[0][0]) for found in sixteen().runs]
    assert still.count("<i class=c>") == sum(held)
    assert "<td>h2o:6<td>有损<td>3,072" in still
    still = take_apart(edited(), "zh")["still"]
    assert "编辑第 2 轮: 床前白日依山尽， → 黄河入海流。欲穷" in still
    assert "<td>编辑第 2 轮<td>床前白日依山尽，" in still


def test_the_commands_write_their_pages(tmp_path, capsys):
    for command, title in (
        (["compare", "中华人民", "--cache", "h2o:2", "-n", "2"], "逐步比较缓存：中华人民共"),
        (["chat", "中华", "今天", "-n", "2", "--edit", "2:天气"], "一段对话和它的缓存：中华"),
    ):
        target = tmp_path / f"{command[0]}.html"
        assert run([*command, "--html", str(target), "--json", "--lang", "zh"]) == 0
        record, text = json.loads(capsys.readouterr().out), target.read_text(encoding="utf-8")
        assert f"<title>{title}</title>" in text
        data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
        if command[0] == "compare":
            assert data["runs"][0]["counts"] == record["policies"][0]["counts"]
        else:
            assert data["totals"] == record["totals"]
            assert "".join(data["lines"][2]["text"]) == "天气"


@pytest.mark.parametrize("command", [["compare", "中"], ["chat", "中"]])
def test_the_commands_refuse(tmp_path, capsys, command):
    assert run([*command, "--open"]) == 2
    assert run([*command, "--html", str(tmp_path)]) == 4
    assert run([*command, "--html", str(tmp_path / "missing" / "page.html")]) == 4
    assert list(tmp_path.iterdir()) == []
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
