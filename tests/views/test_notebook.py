"""What a notebook shows: every result has text as on the terminal, and HTML that is escaped and runs nothing."""

import re
from html.parser import HTMLParser

import pytest

import kvsim
from kvsim.benchmark.record import Benchmark
from kvsim.costs.bytes.memory import Memory
from kvsim.testing.subject.calls import Problem
from kvsim.testing.tolerances import Tolerance
from kvsim.testing.verdict.failure import Diagnosis, Failure
from kvsim.views.notebook import TELLERS, display, find_teller
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
        tags = read(bundle["text/html"])
        assert f'<div lang="{language}">' in bundle["text/html"]
        assert len(tags.text) > 40, name
        assert not re.search("color|src=|href|on[a-z]+=", re.sub(">[^<]*<", "><", bundle["text/html"]))
        assert "\u202e" not in bundle["text/html"]


def test_text_is_the_terminals(monkeypatch):
    from kvsim.i18n.language import words
    from kvsim.views.terminal.trace import format_trace

    monkeypatch.setenv("KVSIM_LANG", "zh")
    assert make("trace")._repr_mimebundle_()["text/plain"] == format_trace(make("trace"), words("zh"))


def test_html_has_the_numbers_of_the_table():
    tags = read(make("trace")._repr_mimebundle_()["text/html"])
    assert "140" in tags.text
    assert "28" in tags.text
    assert {"table", "thead", "tfoot"} <= tags.seen


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
