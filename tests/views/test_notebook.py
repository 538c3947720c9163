"""What a notebook shows: every result has text as on the terminal, and HTML that is escaped and runs nothing."""

import re
from html.parser import HTMLParser

import pytest

import kvsim
from kvsim.benchmark.record import Benchmark
from kvsim.costs.bytes.memory import Memory
from kvsim.i18n.language import words
from kvsim.testing.subject.calls import Problem
from kvsim.testing.tolerances import Tolerance
from kvsim.testing.verdict.failure import Diagnosis, Failure
from kvsim.views import frame
from kvsim.views.frame import MOST_STEPS
from kvsim.views.html_table import to_html
from kvsim.views.notebook import TELLERS, display, find_teller
from kvsim.views.page.kinds import to_html as make_page
from kvsim.views.picture.trace import draw_step
from kvsim.views.terminal.sheet import Column, Sheet
from tests.views.page.traces import hostile, long_trace, seven
from tests.views.terminal.outputs import POEM, demo, make

HOSTILE = "<script>alert(1)</script>\u202e</pre>&"


class Tags(HTMLParser):
    """The tags of a page, and whether each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        assert all(name in ("style", "lang") for name, _ in attrs)
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen <= {"div", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "pre"}
    return tags


def results() -> dict[str, object]:
    conversation = kvsim.Conversation(demo())
    conversation.say(HOSTILE, 2)
    run = make("run")
    return {
        "Trace": make("trace"), "PolicyComparison": make("compare"), "Conversation": conversation,
        "Turn": conversation.turns[0], "Chat": make("chat"), "Run": run, "Step": run.steps[0], "Ledger": run.ledger,
        "Count": make("count"), "Cost": make("cost"), "Memory": make("memory"), "Policies": make("caches"),
        "Plan": make("plan"), "Benchmark": make("bench"), "Health": make("health"),
        "Failure": Failure(headlines=(Problem("the code printed: {text}", {"text": HOSTILE}),)),
        "Diagnosis": Diagnosis((), 3, 7),
        "Tolerance": Tolerance(**vars(make("tolerance"))),
    }  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_result_shows_text_and_html(language, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", language)
    found = results()
    assert set(found) == {kind.__name__ for kind in TELLERS}
    for name, result in found.items():
        bundle = result._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
        assert f'<div lang="{language}">' in bundle["text/html"]
        assert "\u202e" not in bundle["text/html"]
        if name == "Trace":  # a picture and a page: below
            continue
        tags = read(bundle["text/html"])
        assert len(tags.text) > 40, name
        assert not re.search("color|src=|href|on[a-z]+=", re.sub(">[^<]*<", "><", bundle["text/html"]))


def test_text_is_the_terminals(monkeypatch):
    from kvsim.views.terminal.trace import format_trace

    monkeypatch.setenv("KVSIM_LANG", "zh")
    assert make("trace")._repr_mimebundle_()["text/plain"] == format_trace(make("trace"), words("zh"))


class Framed(HTMLParser):
    """The tags around a frame, and the page in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.text, self.frame = "", None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag == "iframe":
            assert self.frame is None
            self.frame = dict(attrs)

    def handle_data(self, data):
        self.text += f" {data}"


@pytest.mark.parametrize("make_trace", [seven, hostile])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_trace_is_a_picture_a_table_and_the_page(make_trace, language, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", language)
    trace, say = make_trace(), words(language)
    html = trace._repr_mimebundle_()["text/html"]
    found = Framed(html)
    assert set(found.frame) == {"sandbox", "style", "srcdoc"}
    assert found.frame["sandbox"] == "allow-scripts"  # and no allow-same-origin: it reaches nothing of the notebook
    assert found.frame["srcdoc"].encode() == make_page(trace, language)
    assert draw_step(trace, say) in html
    assert html.index("<svg") < html.index("<table") < html.index("<iframe")
    assert not {"script", "style", "link", "img"} & set(found.seen)
    assert {"140", "28"} <= set(re.split(r"[^0-9]+", found.text))


def test_the_page_of_a_long_trace_is_left_out_and_the_cell_says_so(monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")
    short, long = (long_trace(n, 1, 1)._repr_mimebundle_()["text/html"] for n in (60, MOST_STEPS + 1))
    assert "<iframe" in short
    assert "<iframe" not in long
    assert "The page of this trace is not shown in a notebook: at most 500 steps" in long
    assert len(long) < 200_000
    monkeypatch.setattr(frame, "MOST_BYTES", len(make_page(seven(), "en")) - 1)
    assert "<iframe" not in seven()._repr_mimebundle_()["text/html"]


def test_numbers_stay_in_one_line():
    html = to_html([Sheet("trace", [Column("name", "name", "left"), Column("n", "n")], [["a-b c", "1e-05 ±2"]])], "en")
    assert '<td style="text-align: left">a-b c</td>' in html
    assert '<td style="text-align: right; white-space: nowrap">1e-05 ±2</td>' in html


def test_only_what_is_asked_for():
    trace = make("trace")
    assert set(trace._repr_mimebundle_(include={"text/html"})) == {"text/html"}
    assert set(trace._repr_mimebundle_(exclude={"text/html"})) == {"text/plain"}


def test_a_long_run_is_cut_and_says_so():
    text = make("run")._repr_mimebundle_()["text/plain"]
    assert "steps not shown" not in text
    run = kvsim.generate(demo(), POEM, 60)
    assert "(20 steps not shown)" in run._repr_mimebundle_()["text/plain"]


def test_subclasses_have_the_teller_of_their_base():
    class Own(Failure):
        pass

    assert find_teller(Own()) is TELLERS[Failure]
    assert display(Own())["text/html"]


def test_every_class_with_the_method_has_a_teller_and_every_teller_such_a_class():
    from kvsim.schemas.display import mimebundle

    assert all(callable(kind._repr_mimebundle_) for kind in TELLERS)
    assert {Benchmark, Memory} <= set(TELLERS)
    assert sum(kind.__dict__.get("_repr_mimebundle_") is mimebundle for kind in TELLERS) == len(TELLERS) - 1  # Policies


def test_public_results_are_covered():
    for name in ("Conversation", "Cost", "Count", "PolicyComparison", "Run", "Step", "Trace", "Turn"):
        assert getattr(kvsim, name) in TELLERS
