"""The page of `kvsim verify` in Chromium, and the page of a trace in a notebook's frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvsim.i18n.language import words
from kvsim.views.frame import frame_trace
from kvsim.views.page.kinds import to_html
from tests.views.page.checks import broken, hostile_failure, many_keys, right, sees_the_next, wrong_attention
from tests.views.page.test_browser import SIZES, browser  # noqa: F401
from tests.views.page.traces import seven

pytestmark = pytest.mark.browser
RESULTS = {
    "attention": wrong_attention, "next": sees_the_next, "many": many_keys, "hostile": hostile_failure, "right": right,
    "broken": broken,
}  # fmt: skip


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    """`visit("right", size="narrow", ...)` opens a page. Whatever it asks for or complains of fails."""
    contexts, wrong = [], []

    def go(name: str, address: str = "", size: str = "wide", locale: str = "en-US", **options: Any) -> Any:
        file = tmp_path / f"{name}.html"
        file.write_bytes(in_notebook() if name == "notebook" else to_html(RESULTS[name]()))
        context = browser.new_context(viewport=SIZES[size], locale=locale, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.is_navigation_request() or wrong.append(request.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(file.as_uri() + address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def in_notebook() -> bytes:
    """The HTML of a trace as a notebook has it."""
    return f"<!doctype html><title>notebook</title>{frame_trace(seven(), words('en'))}".encode()


def signs(page: Any, side: str) -> list[str]:
    found: list[str] = page.locator(f"section[aria-labelledby=side-{side}] [role=gridcell]").all_inner_texts()
    return found


@pytest.mark.parametrize(("name", "differs"), [("attention", "missing"), ("next", "extra")])
def test_both_matrices_are_those_of_the_check(visit, name, differs):
    weights = RESULTS[name]().failure.weights
    page = visit(name)
    pairs = list(zip(weights.got_TS.ravel(), weights.expected_TS.ravel(), strict=True))
    letters = {(True, True): "#", (True, False): "!", (False, True): "?", (False, False): "x"}
    assert signs(page, "got") == [letters[bool(got), bool(expected)] for got, expected in pairs]
    assert signs(page, "expected") == ["#" if expected else "x" for _, expected in pairs]
    assert page.locator("td.wrong").count() == sum(got != expected for got, expected in pairs)
    assert page.locator("td.wrong").count() == page.locator(f"td[data-sign={differs}]").count() > 0
    if name == "next":
        page.locator("td.wrong").first.hover()
        assert page.locator(".looked").inner_text() == "Query 共 sees key 和, which must be masked."
        return
    text = page.locator("body").inner_text()
    for said in ("mask_top_left", "kvsim explain mask_top_left", "feed [1, 1]", "token '共'", "1,792"):
        assert said in text


def test_keys_walk_the_rows_and_the_matrix(visit):
    page = visit("attention")
    live = page.locator("[aria-live=polite]")
    assert live.inner_text().startswith("Query 共, 1 of 3: yours sees 中; the reference sees 中华人民共. Different: 华")
    page.keyboard.press("End")
    assert live.inner_text().startswith("Query 国, 3 of 3")
    assert page.locator("section[aria-labelledby=side-got] tr[aria-current]").inner_text().startswith("国")
    page.locator("section[aria-labelledby=side-got] [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.locator(".looked").inner_text() == "Query 和 sees key 华, as it must."
    page.keyboard.press("ArrowUp")
    assert page.locator(".looked").inner_text() == "Query 共 does not see key 华, which it must see."
    page.keyboard.press("l")
    assert "你的能看到" in live.inner_text()
    page.locator("#tab-report").click()
    assert "[mask_top_left]" in page.locator(".report").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["attention", "many", "right"])
def test_axe_finds_nothing(visit, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(name, color_scheme=scheme)
    for tab in page.locator("[role=tab]").all():
        tab.click()
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RESULTS)
def test_nothing_is_wider_than_the_screen_and_nothing_runs(visit, name, size):
    page = visit(name, size=size, locale="zh-CN")
    assert "{" not in page.locator("main").inner_text().replace("{{data}}", "").replace("${window", "")
    for tab in page.locator("[role=tab]").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.pwned") is None
    if name == "hostile":
        assert "</script><script>window.pwned=1</script>" in page.locator("main").inner_text()


def test_a_right_check_says_so(visit):
    page = visit("right")
    assert page.locator("h1").inner_text() == "It gives what the reference gives"
    assert "right, also after crop" in page.locator("main").inner_text()
    assert not page.locator(".dock").is_visible()


def test_without_scripts_and_on_paper(visit):
    page = visit("attention", java_script_enabled=False)
    assert "[mask_top_left]" in page.locator("body").inner_text()
    page = visit("attention")
    page.emulate_media(media="print")
    page.wait_for_selector(".prints td")
    assert page.locator(".prints td[data-sign=missing]").count() == page.locator("#tab td.wrong").count()


def test_a_notebook_shows_the_page_in_its_frame(visit):
    """The frame has no origin and may not submit forms: the page must do without."""
    page = visit("notebook")
    frame = page.frame_locator("iframe")
    assert frame.locator(".total-no_cache").inner_text() == "140"
    frame.locator(".icon.first").click()
    assert frame.locator(".place").inner_text() == "1 / 7"
    frame.locator(".steps a", has_text="3").click()
    assert frame.locator(".place").inner_text() == "3 / 7"
    frame.locator(".tools button").nth(1).click()
    assert frame.locator("dialog").is_visible()
    frame.locator("dialog button").click()
    assert not frame.locator("dialog").is_visible()
