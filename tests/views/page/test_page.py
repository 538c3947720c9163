"""The page without a browser: its numbers are those of --json and of `model.watch`, and nothing in it can run but its
own script."""

import hashlib
import json
import re
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

import kvsim
from kvsim.cli import run
from kvsim.comparisons.trace_values import PLACES, decode, encode
from kvsim.errors import UsageError
from kvsim.views.page import bundle, shorten
from kvsim.views.page.kinds import KINDS, to_html
from tests.models import demo
from tests.views.page.reading import read_values, take_apart
from tests.views.page.traces import hostile, long_trace, seven, windowed

SCRIPTS = [file.relative_to(bundle.FOLDER).as_posix() for file in sorted(bundle.FOLDER.rglob("*.js"))]


@pytest.mark.parametrize("trace", [seven, windowed, hostile, lambda: long_trace(70, 3, 2)])
def test_every_count_is_that_of_the_json(trace):
    trace = trace()
    data, record = take_apart(trace)["data"], trace.to_dict()
    for run_name in ("no_cache", "cached"):
        columns = data["counts"][run_name]
        for i, step in enumerate(record["steps"]):
            assert {name: column[i] for name, column in columns.items()} == step[run_name]
        assert data["totals"][run_name] == record["totals"][run_name]
        kinds = data["kinds"][run_name].values()
        assert [sum(column) for column in zip(*kinds, strict=True)] == columns["macs"]
        sizes = [rows * cols for rows, cols in data["shapes"][run_name][0]]
        assert sizes == columns["score_cells"]  # of layer 0, which is in the first group
    assert data["feed"] == record["feed"]
    for run_name in ("no_cache", "cached"):
        assert sum(phase[run_name]["flops"] for phase in data["phases"]) == record["totals"][run_name]["flops"]
    assert sum(phase["tokens"] for phase in data["phases"]) == sum(record["feed"])


@pytest.mark.parametrize(("trace", "model", "held"), [(seven, demo(), "dynamic"), (windowed, None, "dynamic")])
def test_every_value_is_that_of_watch(trace, model, held):
    trace = trace()
    data = take_apart(trace)["data"]
    if model is None:
        from tests.models import make_model
        from tests.views.page.traces import WINDOWED

        model = make_model(WINDOWED, "float32")
    cache, ids = model.new_cache(held), []
    for step in trace.steps:
        ids += [piece.id for piece in step.fed]
        for run_name, kept in (("no_cache", None), ("cached", cache)):
            with model.watch("layers.*") as seen:
                model(ids if kept is None else ids[cache.seen :], kept)
            for layer in range(model.config.n_layers):
                for place in PLACES:
                    x = seen[f"layers.{layer}.{place}"]
                    found = read_values(data, step.number, run_name, layer, place)
                    assert np.array_equal(found, decode(encode(x.reshape(-1, *x.shape[-2:])))), (step.number, place)
    assert data["values"]["scale"] == [kvsim.comparisons.trace_values.describe_attention(model.config)[0].scale] * 2


def test_only_its_own_style_and_script_may_run():
    for trace in (seven(), hostile()):
        page = take_apart(trace)
        for part in ("style", "script"):
            digest = b64encode(hashlib.sha256(page[part].encode()).digest()).decode()
            assert f"{part}-src 'sha256-{digest}'" in page["policy"]
        assert page["policy"].startswith("default-src 'none';")
        assert "unsafe" not in page["policy"]
        assert page["text"].count("<script") == 2
        assert page["text"].count("<style") == 1
        assert " style=" not in page["text"].replace(page["script"], "")  # the policy would drop it


def test_no_text_ends_its_element():
    page = take_apart(hostile())
    assert "</script><script>window" not in page["text"]
    assert "<img" not in page["text"]
    assert "\u202e" not in page["text"]  # escaped: it would reorder what follows
    assert "<" not in re.search(r'id="data">(.*?)</script>', page["text"], re.S)[1]
    assert page["data"]["long"]["4"] == "x" * 10_000  # whole, once
    assert page["text"].count("x" * 10_000) == 1
    assert page["data"]["tokens"][0] == "</script><s…"


def test_a_character_in_parts_is_shown_whole():
    """你 in three tokens, as byte-level tokenizers cut it."""
    from dataclasses import replace

    from kvsim.text import Piece

    trace = seven()
    parts = [Piece(i, f"<0x{byte:02X}>") for i, byte in enumerate("你".encode())]
    steps = [replace(step, fed=(part,)) for step, part in zip(trace.steps[:3], parts, strict=True)]
    data = take_apart(replace(trace, steps=(*steps, *trace.steps[3:])))["data"]
    assert data["tokens"][:4] == ["⋯", "⋯", "你", "民"]
    assert "⋯" in data["notes"]["zh"][-1]


def test_half_a_surrogate_pair_is_written():
    from dataclasses import replace

    from kvsim.text import Piece

    trace = seven()
    steps = (replace(trace.steps[0], fed=(Piece(1, "\ud83d"),)), *trace.steps[1:])
    assert take_apart(replace(trace, steps=steps))["data"]["tokens"][0] == "\\ud83d"


def test_integers_that_a_browser_would_round_are_strings():
    text = bundle.escape_json({"a": [2**53 - 1, 2**53, -(2**60)], "b": "<!--", "c": True})
    assert text == '{"a":[9007199254740991,"9007199254740992","-1152921504606846976"],"b":"\\u003c!--","c":true}'


def test_a_page_of_seven_tokens_is_light():
    size = len(to_html(seven(), "zh"))
    assert size < 80_000, f"{size:,} bytes"


def test_a_long_page_grows_with_its_steps_only():
    few, many = (len(to_html(long_trace(n, 8, 64))) for n in (100, 200))
    layers = len(to_html(long_trace(100, 16, 64)))
    assert many - few < 300 * 100
    assert abs(layers - few) < 2_000
    assert take_apart(long_trace(100, 2, 2))["data"]["values"] is None


def test_both_languages_have_every_text():
    page = take_apart(seven())
    texts = page["data"]["texts"]
    asked = set(re.findall(r'\bt\("(\w+)"', "".join(map(bundle.read, bundle.order_modules("kinds/trace.js")))))
    endings = {"cell_", "state_", "tab_", "left_out_"}  # of keys that end with a name
    assert all(any(key.startswith(start) for key in texts) for start in endings)
    assert asked - endings <= texts.keys()
    same = {key for key, (english, chinese) in texts.items() if english == chinese}
    assert same == set(), "not translated"
    assert all(len(pair) == 2 for pair in texts.values())
    assert page["data"]["notes"]["zh"][0].startswith("140 与 28 是")


def test_without_scripts_a_frame_and_the_table_are_shown():
    still = take_apart(seven(), "zh")["still"]
    assert still.count("<i class=x>") == 21
    assert still.count("<i class=c>") == 12
    assert "<th>140<th>28<th>80%<th>84 / 21" in still
    assert "无缓存 7×7 = 49" in still
    assert take_apart(long_trace(70, 1, 1))["still"].count("<tr>") == 42


def test_modules_can_be_joined():
    """Every imported file is there, no two modules export the same name, and each global is listed."""
    exported: dict[str, str] = {}
    for name in SCRIPTS:
        tokens = list(shorten.split(bundle.read(name)))
        for other, is_exported in shorten.find_top_level(tokens).items():
            if is_exported:
                assert other not in exported, f"{name} and {exported.get(other)} export {other}"
                exported[other] = name
        assert "`" not in re.sub(r"`(?:[^`\\]|\\.)*`", "", bundle.read(name))
    for kind in KINDS.values():
        joined = bundle.order_modules(f"kinds/{kind}.js")
        assert joined[-1] == f"kinds/{kind}.js"
        assert "import" not in re.findall(r"\w+", re.sub(r'"[^"]*"', "", bundle.bundle_script(f"kinds/{kind}.js")))


def test_names_are_shortened_and_nothing_else():
    modules = [
        "const a = 1;\nexport function far(near, { left, right: up = 2 }) {\n"
        "  // a note\n  return near.left + left / up;\n}\n",
        'const a = 2;\nclass Pair { left() { return `${far(a, { left: a })} ${"}"}`; } }\n'
        "const x = new Pair().left() + +a;",
    ]
    made = shorten.join_modules(modules)
    assert "note" not in made
    assert ".left" in made
    assert "near" not in made
    assert len(made) < len("".join(modules))
    assert re.findall(r"let (\w+)=([12]);", made)[0][0] != re.findall(r"let (\w+)=([12]);", made)[1][0]
    assert "+ +" in made


def test_a_result_without_a_page():
    with pytest.raises(UsageError, match="there is no page for"):
        to_html({"a": 1})


def test_the_command_writes_a_page(tmp_path, capsys, monkeypatch):
    target = tmp_path / "page.html"
    target.write_text("old")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert run(["trace", "中华人民", "--html", str(target), "--open", "--lang", "zh"]) == 0
    assert opened == [target.as_uri()]
    assert "合计" in capsys.readouterr().out
    text = target.read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in text
    assert "<title>逐步看 KV 缓存：中华人民共和国成</title>" in text
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    record = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert record["totals"]["cached"]["score_cells"] == 28


def test_the_command_without_a_browser_says_where_the_page_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    target = tmp_path / "page.html"
    assert run(["trace", "中", "--html", str(target), "--open"]) == 0
    assert f"no browser was found: open {target}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--html", "{folder}"], 4, "cannot write"),
        (["--html", "{folder}/missing/page.html"], 4, "there is no folder"),
        (["--html", "/dev/full"], 4, "cannot write"), (["--open"], 2, "--open goes with --html"),
        (["--html", "/dev/null", "--open"], 2, "--open goes with --html"),
    ],
)  # fmt: skip
def test_the_command_refuses(tmp_path, capsys, options, code, said):
    given = [option.format(folder=tmp_path) for option in options]
    if any(option.startswith("/dev/") and not Path(option).exists() for option in given):
        pytest.skip("no such device here")
    assert run(["trace", "中", *given]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
