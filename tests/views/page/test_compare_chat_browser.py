"""The pages of compare and chat in Chromium: what they show, every key, nothing that axe-core finds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvsim.views.page.kinds import to_html
from tests.views.page.talks import (
    alone,
    edited,
    expect_states,
    hostile_chat,
    hostile_comparison,
    long_comparison,
    restarted,
    sixteen,
    whole_prompt,
)
from tests.views.page.test_browser import SIZES, browser, count, step_of, wait_for_step  # noqa: F401
from tests.views.page.traces import HOSTILE

pytestmark = pytest.mark.browser
RESULTS = {
    "sixteen": sixteen, "whole": whole_prompt, "hostile-compare": hostile_comparison, "long": long_comparison,
    "alone": alone, "edited": edited, "restarted": restarted, "hostile-chat": hostile_chat,
}  # fmt: skip
TABS = {"compare": ("rows", "logits", "memory"), "chat": ("turns", "memory", "cost")}


def tabs_of(name: str) -> tuple[str, ...]:
    return TABS["chat" if name in ("edited", "restarted", "hostile-chat") else "compare"]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    """`visit("sixteen", "#step=2", size="narrow", ...)` opens a page. Whatever it asks for or complains of fails."""
    contexts, wrong = [], []

    def go(name: str, address: str = "", size: str = "wide", locale: str = "en-US", **options: Any) -> Any:
        file = tmp_path / f"{name}.html"
        file.write_bytes(to_html(RESULTS[name]()))
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


def states(page: Any, column: int, row: str = ".strip") -> list[str]:
    """The states of the cells of a row that are seen, in one column of the page."""
    cells = page.locator(f".policies .side:nth-child({column}) {row} [role=gridcell]")
    found = cells.evaluate_all("(cells) => cells.map((cell) => cell.dataset.state)")
    return [state for state in found if state not in ("none", "later", "context")]


@pytest.mark.parametrize("name", ["sixteen", "whole"])
def test_every_cell_is_that_of_the_record(visit, name):
    comparison = RESULTS[name]()
    page = visit(name, "#step=1&layer=1&head=1")
    for step in range(1, len(comparison.stops) + 1):
        for column, run in enumerate(comparison.runs, start=1):
            expected = expect_states(comparison, run, step, 1, 1)
            assert states(page, column) == expected
            assert states(page, column, f".row:nth-child({3 + step})") == expected  # after the heads, strip and ghost
            held = sum(state in ("key", "cached") for state in expected)
            size = page.locator(f".policies .side:nth-child({column}) .size").inner_text()
            assert size == f"{held} / {comparison.stops[step - 1]} rows"
        page.keyboard.press("ArrowRight")


def test_layers_and_heads_have_rows_of_their_own(visit):
    page = visit("sixteen", "#step=16")
    seen = set()
    for layer in (0, 1):
        for head in (0, 1):
            page.evaluate(f"location.hash = '#layer={layer}&head={head}'")
            page.locator(f"xpath=//*[@aria-live][contains(., 'Layer {layer}, KV head {head}:')]").wait_for()
            assert states(page, 2) == expect_states(sixteen(), sixteen().runs[1], 16, layer, head)
            seen.add(tuple(states(page, 2)))
            assert states(page, 1) == ["cached"] * 2 + ["zero"] * 9 + ["masked"] + ["cached"] * 3 + ["key"]
    assert len(seen) > 1


def test_logits_of_every_position(visit):
    comparison = whole_prompt()
    page = visit("whole", "#step=2&tab=logits")
    rows = page.locator(".positions tbody tr")
    assert rows.count() == comparison.stops[-1]
    texts = {piece.id: piece.text for piece in comparison.choices}
    for i in range(rows.count()):
        cells = rows.nth(i).locator("td").all_inner_texts()[2:]
        for run, kl, choice in zip(comparison.runs, cells[::2], cells[1::2], strict=True):
            row = run.rows[i]
            assert float(kl.replace("−", "-")) == pytest.approx(row.divergence, rel=6e-3)
            assert choice == f"{'=' if row.same else '≠'} {texts[row.choice]}"
    assert "≠" in page.locator(".positions").inner_text()
    assert count(page, ".positions [aria-current]") == 1
    page.locator("#tab-rows").click()
    found = page.locator(".policies-table tbody tr").nth(1).locator("td").all_inner_texts()
    run = comparison.runs[0]
    assert found[:4] == [
        f"{x:,}" for x in (run.logical_bytes, run.allocated_bytes, run.metadata_bytes, run.counts.macs)
    ]
    assert found[7] == f"{comparison.all_of(run).same_choices}/{comparison.stops[-1]}"


def test_a_cell_tells_when_its_row_came_and_went(visit):
    page = visit("sixteen", "#step=16")
    page.locator(".policies .side:nth-child(1) .strip [role=gridcell]").nth(4).hover()
    told = page.locator(".inspector")
    fate = sixteen().runs[0].history.evicted[0][0][4]
    assert "Row of 光 in sinks:2+5" in told.inner_text()
    assert f"fed in step 5 · evicted in step {fate}" in told.inner_text()
    told.locator("a", has_text="evicted").click()
    assert step_of(page) == fate
    assert states(page, 1)[4] == "masked"


def test_keys_of_the_comparison(visit):
    page = visit("sixteen", "#step=4")
    for key, step in [("ArrowRight", 5), ("ArrowLeft", 4), ("End", 16), ("Home", 1), ("PageDown", 2), ("PageUp", 1)]:
        page.keyboard.press(key)
        assert step_of(page) == step, key
    page.keyboard.press("]")
    page.keyboard.press(".")
    assert [page.locator(f"select[name={name}]").input_value() for name in ("layer", "head")] == ["1", "1"]
    page.keyboard.press("[")
    page.keyboard.press(",")
    assert [page.locator(f"select[name={name}]").input_value() for name in ("layer", "head")] == ["0", "0"]
    page.keyboard.press("l")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert "喂入“床”" in page.locator("[aria-live=polite]").inner_text()
    page.keyboard.press("End")
    page.locator(".policies .side:nth-child(2) [tabindex='0']").focus()
    told = page.locator(".inspector")
    for key, said in [
        ("ArrowUp", "第 16 步之后"), ("ArrowDown", "第 1 步之后"), ("ArrowDown", "第 2 步之后"),
        ("ArrowRight", "新的，保留"), ("ArrowRight", "尚未喂入"), ("Home", "2 行中留有 2 行"),
        ("ArrowDown", "3 行中留有 3 行"),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert said in told.inner_text(), key
    assert step_of(page) == 16  # arrows in a grid do not step
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()


def tokens(page: Any, place: str) -> list[tuple[str, str]]:
    """Text and state of every token."""
    found = page.locator(f"{place} > .tokens li, {place} .body > .tokens li")
    pairs = found.evaluate_all("(cells) => cells.map((cell) => [cell.firstChild.textContent, cell.dataset.state])")
    return [(text, state) for text, state in pairs]


@pytest.mark.parametrize("name", ["edited", "restarted"])
def test_every_token_of_a_turn(visit, name):
    chat = RESULTS[name]()
    texts = {piece.id: piece.text for piece in chat.pieces}
    page = visit(name, "#step=1")
    for i, line in enumerate(chat.lines):
        turn = line.turn
        before = [chat.lines[j].turn for j in chat.before(i)]
        ids = [x for one in before for x in (*one.ids, *one.reply_ids)] + [*turn.ids, *turn.reply_ids]
        fed = turn.start + len(turn.ids)
        for side, cached in (("fresh", 0), ("reused", turn.cached)):
            expected = ["prompt"] * cached + ["key"] * (fed - cached) + ["value"] * (len(turn.reply_ids) - 1) + ["zero"]
            shown = tokens(page, f".side.{side}")
            assert shown == list(zip([texts[x] for x in ids], expected, strict=True)), (i, side)
        assert page.locator(".side.reused .size").inner_text() == f"{turn.new} tokens fed"
        assert count(page, ".dropped [data-state=masked]") == turn.dropped
        said = page.locator("[aria-live=polite]").inner_text()
        assert f"{turn.cached} tokens are reused and {turn.new} are fed" in said
        assert (f"drops {turn.dropped} tokens" in said) == (turn.dropped > 0)
        page.keyboard.press("ArrowRight")


def test_an_edit_shows_what_it_drops(visit):
    page = visit("edited", "#step=5")  # the first edit
    text = "".join(text for text, _ in tokens(page, ".dropped"))
    assert text.startswith("明月光，疑是地上霜")
    assert "今天天气" in text
    page = visit("restarted", "#step=3", locale="zh-CN")
    assert page.locator(".dropped .soft").inner_text()  # why the cache was cleared
    assert count(page, ".side.reused > .body > .tokens [data-state=prompt]") == 0


def test_the_table_of_turns(visit):
    chat = edited()
    page = visit("edited", "#step=2")
    rows = page.locator(".steps tbody tr")
    for i, line in enumerate(chat.lines):
        cells = rows.nth(i).locator("td").all_inner_texts()
        fresh, reused = line.turn.fresh.counts, line.turn.reused.counts
        assert cells[3:6] == [
            f"{line.turn.cached:,}",
            f"{line.turn.new:,}",
            f"{fresh.score_cells:,} / {reused.score_cells:,}",
        ]
        assert cells[8] == f"{line.turn.reused.kv_bytes:,}"
    totals = page.locator(".totals td").all_inner_texts()
    assert totals[4:6] == [
        f"{getattr(chat.totals.fresh, name):,} / {getattr(chat.totals.reused, name):,}"
        for name in ("score_cells", "projected_rows")
    ]
    rows.nth(3).locator("a").click()
    assert step_of(page) == 4
    assert rows.nth(3).get_attribute("aria-current") == "step"


def test_transport_and_links_of_a_chat(visit):
    page = visit("edited", "#step=2&tab=memory&lang=zh")
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "内存"
    page.keyboard.press("End")
    assert step_of(page) == 6
    page.keyboard.press("Home")
    page.locator(".pace select").select_option("4")
    page.locator("h1").click()  # a field keeps the keys that it uses
    page.keyboard.press(" ")
    wait_for_step(page, 6)
    page.keyboard.press("l")
    assert page.evaluate("location.hash").endswith("&tab=memory&lang=en")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["sixteen", "whole", "long", "edited"])
def test_axe_finds_nothing(visit, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(name, "#step=5", color_scheme=scheme)
    for tab in tabs_of(name):
        page.locator(f"#tab-{tab}").click()
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == [], tab


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["sixteen", "hostile-compare", "long", "edited", "hostile-chat"])
def test_nothing_is_wider_than_the_screen(visit, name, size):
    page = visit(name, "#step=6", size=size, locale="zh-CN")
    for tab in tabs_of(name):
        page.locator(f"#tab-{tab}").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        assert "{" not in page.locator("main").inner_text() or name.startswith("hostile")  # each text is filled in


@pytest.mark.parametrize("name", ["hostile-compare", "hostile-chat"])
def test_hostile_text_is_shown_and_does_not_run(visit, name):
    page = visit(name, "#step=7")
    for tab in tabs_of(name):
        page.locator(f"#tab-{tab}").click()
        page.keyboard.press("l")
    assert page.evaluate("window.pwned") is None
    assert "</script>" in page.locator("main").inner_text()
    if name == "hostile-chat":
        page.locator("#tab-turns").click()
        titles = page.locator(".tokens li").evaluate_all("(cells) => cells.map((cell) => cell.title)")
        assert any(HOSTILE[0] in title for title in titles)  # whole


def test_nothing_compared_is_said(visit):
    page = visit("alone")
    assert page.locator("[aria-live=polite]").inner_text().endswith("No cache is compared with the reference.")
    for tab in ("logits", "memory", "rows"):
        page.locator(f"#tab-{tab}").click()


def test_many_rows_are_drawn_as_areas(visit):
    page = visit("long", "#step=8")
    window = page.locator(".policies .side").nth(0)
    assert window.locator(".area").get_attribute("aria-label") == "29 rows are kept, 20 are evicted in this step"
    assert "does not tell" in page.locator(".policies .side").nth(1).inner_text()
    assert count(page, "[role=gridcell]") == 0


@pytest.mark.parametrize("name", ["sixteen", "edited"])
def test_on_paper_and_without_scripts(visit, name):
    page = visit(name, "#step=3")
    page.emulate_media(media="print")
    page.wait_for_selector(".prints .paper:last-child")
    assert not page.locator(".dock").is_visible()
    sections, cells = count(page, ".paper"), count(page, ".paper :is(i, li)[data-state]")
    assert sections == (2 if name == "sixteen" else 6)
    assert cells == (2 * 16 * 17 // 2 if name == "sixteen" else sum(line.turn.stop for line in edited().lines))
    assert len(page.pdf()) > 10_000
    assert "h2o:6" in visit(name, java_script_enabled=False).locator("body").inner_text() or name == "edited"


def test_time_of_a_step(visit, capsys):
    """Reported only: times depend on the machine."""
    for name in ("sixteen", "long", "edited"):
        page = visit(name, "#step=3")
        times = page.evaluate(
            """() => ['ArrowRight', 'ArrowRight', 'ArrowLeft', 'End', 'Home'].map((key) => {
                const start = performance.now();
                document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
                document.body.offsetHeight;
                return performance.now() - start;
            })"""
        )
        with capsys.disabled():
            print(
                f"\n{name}: a step {', '.join(f'{x:.1f}' for x in times)} ms; {len(to_html(RESULTS[name]())):,} bytes"
            )
