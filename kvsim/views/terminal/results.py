"""Results of the library that no command prints: runs, their steps, ledgers, counts, conversations, as tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from kvsim.comparisons.conversation import Conversation
from kvsim.comparisons.conversation_record import Turn
from kvsim.costs.work.counter import Count
from kvsim.counting.ledger import Ledger, Totals, total
from kvsim.generation.runs import Run, Step
from kvsim.i18n.language import Say
from kvsim.i18n.printable import printable
from kvsim.text import show_text
from kvsim.views.terminal.chat import turn_sheet
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import shown_steps
from kvsim.views.terminal.text import byte_line, number
from kvsim.views.terminal.trace_tables import merge_layers

_ROWS = 40  # the most steps of a run that are shown
_TEXT = 76  # characters of its text, and of the ids of a step


def _amount(value: Any) -> str:
    """An integer; a polynomial, of a model without data, as it is."""
    return number(value) if isinstance(value, int) else str(value)[:_TEXT]


def products_sheet(sites: Mapping[str, Totals], say: Say) -> Sheet:
    """One row a site, all layers together, and totals."""
    merged: dict[str, Totals] = {}
    for site, found in sites.items():
        before = merged.get(merge_layers(site), Totals(0, 0, 0))
        merged[merge_layers(site)] = Totals(*(a + b for a, b in zip(before, found, strict=True)))
    sums = [sum(found[i] for found in merged.values()) for i in range(3)]
    columns = [
        Column("site", say("site"), "left", say("total")),
        Column("products", say("matrix products"), total=_amount(sums[0])),
        Column("macs", say("MACs"), total=_amount(sums[1])),
        Column("useful", say("MACs that the mask admits"), total=_amount(sums[2])),
    ]
    rows = [[site, *map(_amount, found)] for site, found in merged.items()]
    return Sheet("products", columns, rows, totals=True, in_json=False)


def ledger_parts(ledger: Ledger, say: Say) -> list[Part]:
    """The products by site."""
    return [products_sheet(ledger.by("site"), say)]


def _step_lines(steps: Iterable[Step], shown: set[int], say: Say) -> Sheet:
    columns = [
        Column("step", say("step")),
        Column("fed", say("fed"), "left", bend="cut"),
        Column("next", say("next")),
        Column("products", say("matrix products")),
        Column("macs", say("MACs")),
    ]
    table = Sheet("run", columns, in_json=False)
    for i, step in enumerate(steps):
        found = total(step.events)
        if i in shown:
            fed = show_text(None, step.fed)
            table.add(number(step.number), fed, str(step.next), _amount(found.calls), _amount(found.macs))
        elif i - 1 in shown:
            table.add("…")
    return table


def run_parts(run: Run, say: Say) -> list[Part]:
    """The text, one row a step, and what the cache is."""
    head, end = shown_steps(len(run.steps), _ROWS)
    table = _step_lines(run.steps, {*head, *end}, say)
    if hidden := len(run.steps) - len(head) - len(end):
        table.gap = say("({n} steps not shown)").format(n=hidden)
    sums = say("all steps") + say(": ") + _amount(run.ledger.macs) + " " + say("MACs")
    text = show_text(run.text, run.ids, _TEXT)
    return [printable(text), table, sums + say("; ") + say("cache {cache}").format(cache=run.cache.spec)]


def step_parts(step: Step, say: Say) -> list[Part]:
    """The products of one step by site."""
    title = f"{say('step')} {number(step.number)}{say(': ')}{say('fed')} {show_text(None, step.fed)}"
    return [title, products_sheet(Ledger(step.events).by("site"), say)]


def count_parts(count: Count, say: Say) -> list[Part]:
    """The run, its products by site, and the bytes of its cache."""
    run = [f"{say('model')} {count.model}", say("prompt {n}").format(n=number(count.prompt))]
    run += [say("new tokens {n}").format(n=number(count.new)), say("cache {cache}").format(cache=count.cache)]
    held = say("KV cache after the last step: {bytes}").format(bytes=byte_line(count.kv_bytes))
    return [printable(say(", ").join([*run, count.dtype])), products_sheet(count.by("site"), say), held]


def turn_parts(turn: Turn, say: Say) -> list[Part]:
    """One turn."""
    return [turn_sheet([turn], [number(turn.number)], say)]


def conversation_parts(conversation: Conversation, say: Say) -> list[Part]:
    """Every turn so far, and their sums."""
    model = f"{say('model')} {conversation.model.name}"
    heading = model + say(", ") + say("cache {cache}").format(cache=conversation.cache.spec)
    turns = conversation.turns
    return [printable(heading), turn_sheet(turns, [number(turn.number) for turn in turns], say)]
