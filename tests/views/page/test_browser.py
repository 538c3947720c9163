"""The page in Chromium: what it shows, every key, both languages, no request, nothing that axe-core finds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvsim.views.page.kinds import to_html
from tests.conftest import find_chromium
from tests.views.page.traces import HOSTILE, changed, hostile, long_trace, seven, windowed

pytestmark = pytest.mark.browser
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages, written once."""
    folder = tmp_path_factory.mktemp("pages")
    traces = {
        "seven": seven,
        "windowed": windowed,
        "hostile": hostile,
        "changed": changed,
        "long": lambda: long_trace(120, 4, 2),
    }
    for name, trace in traces.items():
        (folder / f"{name}.html").write_bytes(to_html(trace()))
    return {name: folder / f"{name}.html" for name in traces}


@pytest.fixture
def visit(browser: Any, files: dict[str, Path]) -> Iterator[Any]:
    """`visit("seven", "#step=2", locale="zh-CN", ...)` opens a page. Whatever it asks for or complains of fails."""
    contexts, wrong = [], []

    def go(name: str, address: str = "", size: str = "wide", locale: str = "en-US", **options: Any) -> Any:
        context = browser.new_context(viewport=SIZES[size], locale=locale, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.is_navigation_request() or wrong.append(request.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(files[name].as_uri() + address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def count(page: Any, selector: str) -> int:
    found: int = page.locator(selector).count()
    return found


def step_of(page: Any) -> int:
    return int(page.locator(".place").inner_text().split("/")[0])


def wait_for_step(page: Any, step: int) -> None:
    """Not by wait_for_function, which evaluates text: the page's policy forbids it."""
    page.locator(f"xpath=//output[starts-with(., '{step} /')]").wait_for()


def test_the_page_says_what_the_tutorial_draws(visit):
    page = visit("seven", "#step=7")
    assert page.locator(".total-no_cache").inner_text() == "140"
    assert page.locator(".total-cached").inner_text() == "28"
    assert count(page, ".no_cache [data-state=masked][role=gridcell]") == 21
    assert count(page, "[data-state=masked][role=gridcell]") == 21
    assert count(page, ".cached [data-state=cached][role=gridcell]") == 12
    assert count(page, "[data-state=cached][role=gridcell]") == 12
    assert count(page, ".cached [data-state=key][role=gridcell]") == 1
    assert count(page, ".no_cache [data-state=value][role=gridcell]") == 7


@pytest.mark.parametrize("name", ["seven", "windowed"])
def test_cells_are_as_many_as_were_counted(visit, name):
    trace = {"seven": seven, "windowed": windowed}[name]()
    page = visit(name, "#step=1")
    for step in trace.steps:
        for run, side in (("no_cache", step.no_cache), ("cached", step.cached)):
            masked = count(page, f".{run} [role=gridcell][data-state=masked]")
            computed = count(page, f".{run} [role=gridcell][data-state=calc]")
            assert (masked + computed, computed) == (side.counts.score_cells, side.counts.useful_cells)
        kept = count(page, ".cached .strip [data-state=cached]") // 2
        said = page.locator(".cached > .soft").inner_text()
        assert said.endswith(f"K, V of {kept} come from the cache.") or (step.number == 1 and kept == 0)
        page.keyboard.press("ArrowRight")


def test_every_shown_score_is_that_of_the_run(visit):
    trace = seven()
    page = visit("seven", "#step=1&layer=1&head=3")
    for step in trace.steps:
        for run in ("no_cache", "cached"):
            scores = trace.values.read(step.number, run, "layers.1.scores")[3]
            first = step.number - len(scores)
            expected = [
                f"{x:.1f}".replace("-", "−") if s <= first + t else "x"
                for t, row in enumerate(scores)
                for s, x in enumerate(row)
            ]
            shown = page.locator(f".{run} .grid:not(.right) [data-state=calc], .{run} [data-state=masked]")
            assert shown.all_inner_texts() == expected
        page.keyboard.press("ArrowRight")


def test_a_number_that_changed_is_shown_where_it_did(visit):
    page = visit("changed", "#step=7&head=0")
    row = ".cached .grid:not(.right) [data-state=calc]"
    assert page.locator(row).nth(2).inner_text() == "55.5"
    assert page.locator(f".no_cache {row.removeprefix('.cached ')}").nth(21 + 2).inner_text() != "55.5"
    for _ in range(3):
        page.keyboard.press(".")
    assert page.locator(row).nth(2).inner_text() != "55.5"
    assert page.locator(row).nth(5).inner_text() == "−44.5"
    page.keyboard.press("ArrowLeft")
    assert page.locator(row).nth(5).inner_text() != "−44.5"


def test_every_key(visit):
    page = visit("seven", "#step=4")
    for key, step in [
        ("ArrowRight", 5), ("ArrowLeft", 4), ("End", 7), ("ArrowRight", 7), ("Home", 1), ("ArrowLeft", 1),
        ("PageDown", 2), ("PageUp", 1),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert step_of(page) == step, key
    page.keyboard.press("]")
    page.keyboard.press(".")
    page.keyboard.press(".")
    assert [page.locator(f"select[name={name}]").input_value() for name in ("layer", "head")] == ["1", "2"]
    page.keyboard.press("[")
    page.keyboard.press(",")
    assert [page.locator(f"select[name={name}]").input_value() for name in ("layer", "head")] == ["0", "1"]
    page.keyboard.press(" ")
    assert page.locator(".play").get_attribute("aria-label") == "Pause"
    wait_for_step(page, 2)
    page.keyboard.press(" ")
    assert page.locator(".play").get_attribute("aria-label") == "Play"
    page.keyboard.press("l")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    assert page.locator("dialog kbd").count() >= 12
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_the_buttons(visit):
    page = visit("seven", "#step=4")
    for name, step in [("next", 5), ("back", 4), ("last", 7), ("first", 1)]:
        page.locator(f".icon.{name}").click()
        assert step_of(page) == step
    page.locator("input[type=range]").fill("6")
    assert step_of(page) == 6
    page.locator(".steps a", has_text="3").click()
    assert step_of(page) == 3
    page.locator(".pace select").select_option("4")
    page.locator(".play").click()
    wait_for_step(page, 7)
    assert page.locator(".play").get_attribute("aria-label") == "Play"  # it stops at the end


def test_arrows_walk_the_grid(visit):
    page = visit("seven", "#step=7")
    assert count(page, ".no_cache .grid:not(.right) [tabindex='0']") == 1
    page.locator(".no_cache .grid:not(.right) [tabindex='0']").focus()
    where = "[document.activeElement.dataset.state, document.activeElement.textContent]"
    assert "Score: query 国 with key 国" in page.locator(".inspector h3").inner_text()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(where) == ["masked", "x"]
    assert "Computed, then masked: the key comes after the query." in page.locator(".inspector").inner_text()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert page.evaluate(where) == ["query", "Q"]
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    assert page.evaluate(where) == ["key", "K"]
    assert step_of(page) == 7  # arrows in a grid do not step
    page.keyboard.press("PageUp")
    assert step_of(page) == 6
    assert page.evaluate(where)[0] == "key"  # the place is kept


def test_a_cached_cell_tells_the_step_that_made_it(visit):
    page = visit("seven", "#step=7")
    page.locator(".cached .strip [data-state=cached]").nth(2).hover()
    assert "made in step 3" in page.locator(".inspector").inner_text()
    assert page.locator(".made").get_attribute("visibility") == "visible"
    assert page.locator(".made").get_attribute("x") == "2"
    page.locator(".inspector a").click()
    assert step_of(page) == 3


def test_a_score_is_written_out(visit):
    trace = seven()
    page = visit("seven", "#step=7&layer=0&head=2")
    page.locator(".no_cache .grid:not(.right) [data-state=calc]").nth(4).hover()  # query 3, key 2
    text = page.locator(".inspector .formula").inner_text().replace("−", "-")
    head, _, terms = text.partition(" = 0.25 × (")
    found = [tuple(map(float, re.findall(r"-?\d[\d.e-]*", term))) for term in terms.rstrip(")").split(" + ")]
    q = trace.values.read(7, "no_cache", "layers.0.query")[2, 2]
    k = trace.values.read(7, "no_cache", "layers.0.key")[1, 1]  # head 2 reads key/value head 1
    assert found == [(float(f"{a:.4g}"), float(f"{b:.4g}")) for a, b in zip(q, k, strict=True)]
    assert float(head) == pytest.approx(0.25 * sum(a * b for a, b in found), abs=2e-3)


def test_the_address_links_a_frame(visit):
    page = visit("seven", "#step=5&layer=1&head=3&lang=zh&tab=memory")
    assert step_of(page) == 5
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "内存"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("location.hash") == "#step=6&layer=1&head=3&tab=memory&lang=zh"
    page.evaluate("location.hash = '#step=2&tab=cells'")
    wait_for_step(page, 2)
    assert page.locator("select[name=head]").input_value() == "3"
    wrong = visit("seven", "#step=99&layer=-4&head=x&lang=fr&tab=nowhere")
    assert step_of(wrong) == 7
    assert wrong.locator("select[name=layer]").input_value() == "0"
    assert wrong.evaluate("document.documentElement.lang") == "en"


def test_both_languages(visit):
    for locale, heading, said in [
        (
            "zh-CN",
            "无缓存",
            "第 7 步，共 7 步：喂入“国”，输出“成”。无缓存要算 49 个分数格、21 行 Q、K、V；有缓存只算 7 格、3 行。",
        ),
        ("en-GB", "Without a cache", "Step 7 of 7: 国 is fed and 成 comes out."),
    ]:
        page = visit("seven", locale=locale)
        assert page.locator("#side-no_cache").inner_text() == heading
        assert said in page.locator("[aria-live=polite]").inner_text()
        assert "140" in page.locator(".notes").inner_text()
        assert "{" not in page.locator("body").inner_text()  # every value of a text is filled in


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["seven", "long"])
def test_axe_finds_nothing(visit, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(name, "#step=5", color_scheme=scheme)
    for tab in ("cells", "memory", "cost"):
        page.locator(f"#tab-{tab}").click()
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == [], tab
    page.keyboard.press("?")
    assert Axe().run(page).response["violations"] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["seven", "hostile", "long"])
def test_nothing_is_wider_than_the_screen(visit, name, size):
    page = visit(name, size=size, locale="zh-CN")
    for tab in ("cells", "memory", "cost"):
        page.locator(f"#tab-{tab}").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    page.locator("#tab-cells").click()
    tops = page.evaluate("[...document.querySelectorAll('.side')].map(x => x.getBoundingClientRect().top)")
    assert (tops[0] == tops[1]) == (size == "wide")


def test_hostile_text_is_shown_and_does_not_run(visit):
    page = visit("hostile", "#step=7")
    assert page.evaluate("window.pwned") is None
    shown = page.locator(".tile").all_inner_texts()
    assert shown[0].startswith("</script>")
    assert shown[2].startswith("\\u202e")
    page.locator(".cached .strip [data-state=cached]").nth(4).hover()
    assert "x" * 10_000 in page.locator(".inspector .long").inner_text()
    page.locator(".cached .strip [data-state=cached]").nth(0).hover()
    assert page.locator(".inspector .long").inner_text() == HOSTILE[0]
    page.keyboard.press("l")
    assert page.evaluate("window.pwned") is None


def test_many_tokens_are_drawn_as_areas(visit):
    trace = long_trace(120, 4, 2)
    page = visit("long", "#step=120")
    assert "More than 64 tokens" not in page.locator(".left-out").inner_text()  # nobody asked for values
    assert "values were not recorded" in page.locator(".left-out").inner_text()
    label = page.locator(".no_cache .area").get_attribute("aria-label")
    assert label.startswith("14,400 score cells, of which 7,140 are masked; 0 rows")
    label = page.locator(".cached .area").get_attribute("aria-label")
    assert label.startswith("120 score cells, of which 0 are masked; 119 rows")
    assert page.locator(".total-no_cache").inner_text() == f"{trace.totals.no_cache.score_cells:,}"
    assert count(page, ".steps tbody tr") == 25  # those around the step
    assert page.locator("tr[aria-current]").get_attribute("data-step") == "120"


def test_without_scripts(visit):
    page = visit("seven", java_script_enabled=False)
    text = page.locator("body").inner_text()
    assert "140" in text
    assert "84 / 21" in text
    assert page.locator("i.x").count() == 21


def test_on_paper_every_step_is_shown(visit):
    page = visit("seven", "#step=3")
    page.emulate_media(media="print")
    page.wait_for_selector(".multiples figure:nth-child(7)")
    assert count(page, ".multiples svg") == 14
    assert not page.locator(".dock").is_visible()
    assert len(page.pdf()) > 10_000


def test_motion_is_reduced(visit):
    page = visit("seven", reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('.meter i')).transitionDuration") == "0s"


def test_weight_and_time(visit, files, record_property, capsys):
    """The weight is limited; times are only reported: they depend on the machine."""
    assert files["seven"].stat().st_size < 80_000
    page = visit("seven", "#step=1")
    times = page.evaluate(
        """() => ['ArrowRight', 'ArrowRight', 'ArrowRight', 'ArrowLeft', 'End', 'Home'].map((key) => {
            const start = performance.now();
            document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
            document.body.offsetHeight;
            return performance.now() - start;
        })"""
    )
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)")
    record_property("milliseconds", json.dumps({"steps": times, "first paint": paint}))
    with capsys.disabled():
        print(f"\na step: {', '.join(f'{x:.1f}' for x in times)} ms; first paint: {paint} ms")
    assert step_of(page) == 1
