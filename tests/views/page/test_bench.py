"""The page of `kvsim bench`: its numbers are those of --json, its bars the quartiles of the repeats."""

import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvsim.benchmark import limits
from kvsim.cli import run
from kvsim.views.json.bench import to_dict
from kvsim.views.page import bundle
from kvsim.views.page.kinds import to_html
from tests.views.page.reading import take_apart
from tests.views.page.test_browser import SIZES, browser  # noqa: F401
from tests.views.page.traces import HOSTILE
from tests.views.terminal.outputs import make


def hostile() -> Any:
    return replace(make("bench"), model=HOSTILE[1], machine=HOSTILE[0], peer=None, points=[
        replace(point, peer=[], uncached=[]) for point in make("bench").points
    ])  # fmt: skip


def test_the_page_has_the_record_and_the_quartiles():
    bench = make("bench")
    data = take_apart(bench)["data"]
    assert data["record"] == to_dict(bench)
    for way, threes in data["quartiles"].items():
        for point, three in zip(bench.points, threes, strict=True):
            assert three == statistics.quantiles(getattr(point, way), n=4)
    assert data["machine"] == bench.machine
    assert bench.machine in data["headline"]["zh"]
    assert data["shown"]["cached"][0] == "1.25 ±0.03"
    notes = " ".join(data["notes"]["en"])
    assert f"{data['record']['seconds']['cached']:.2f} s with a cache" in notes
    asked = set(re.findall(r'\bt\("(\w+)"', "".join(map(bundle.read, bundle.order_modules("kinds/bench.js")))))
    assert asked - {"tab_"} <= data["texts"].keys()
    assert {key for key, (en, zh) in data["texts"].items() if en == zh} == {"peer"}


def test_one_repeat_has_no_quartiles_but_a_median():
    bench = make("bench")
    one = replace(bench, points=[replace(point, cached=point.cached[:1]) for point in bench.points])
    assert take_apart(one)["data"]["quartiles"]["cached"][0] == [0.001234] * 3


def test_nothing_but_the_pages_script_can_run():
    page = take_apart(hostile())
    assert page["text"].count("<script") == 2
    assert "<img" not in page["text"]
    assert len(to_html(make("bench"))) < 60_000
    assert "1.25 ±0.03" in take_apart(make("bench"), "zh")["still"]


def test_the_command_writes_what_json_says(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(limits, "SHAPES", ((64, 64),))  # small matrices: the machine is not tested
    file = tmp_path / "bench.html"
    assert run(["bench", "-n", "2", "--prompt", "2", "--repeats", "1", "--html", str(file), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    text = file.read_text(encoding="utf-8")
    assert json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["record"] == record
    assert run(["bench", "--html", str(tmp_path)]) == 4
    assert run(["bench", "--open"]) == 2


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    """`visit(result)` opens its page. Whatever it asks for or complains of fails."""
    wrong: list[str] = []
    contexts = []

    def go(result: Any, size: str = "wide", **options: Any) -> Any:
        (tmp_path / "page.html").write_bytes(to_html(result))
        context = browser.new_context(viewport=SIZES[size], **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.is_navigation_request() or wrong.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.browser
def test_bars_and_keys(visit):
    page = visit(make("bench"))
    assert page.locator("rect.cached, rect.uncached, rect.peer").count() == 9
    most = statistics.quantiles([0.012345 * 1024, 0.0125 * 1024, 0.013 * 1024], n=4)[2]
    width = float(page.locator("rect.uncached").nth(1).get_attribute("width"))
    assert width == pytest.approx(100 * 0.0125 * 512 / most)
    page.keyboard.press("Home")
    live = page.locator("[aria-live=polite]")
    assert live.inner_text() == "Context 16: 1.25 ±0.03 ms with a cache, 200.00 ±5.24 ms without, 160.0x."
    page.locator("tr[data-step='2']").first.click()
    assert live.inner_text().startswith("Context 512")
    page.keyboard.press("l")
    assert "处理器" in page.locator("main").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("result", [lambda: make("bench"), hostile], ids=["bench", "hostile"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(visit, result, size):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(result(), size, color_scheme="dark" if size == "narrow" else "light")
    for tab in ("measured", "repeats"):
        page.locator(f"#tab-{tab}").click()
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.pwned") is None
