"""The output of `kvsim caches` on a terminal."""

from fractions import Fraction

from rich.text import Text

from kvsim.costs.bytes.policies import Policies, PolicyFacts
from kvsim.i18n.language import Say, explain, plain
from kvsim.i18n.printable import printable
from kvsim.views.terminal.table import Column, make_table, render
from kvsim.views.terminal.text import number


def format_fraction(value: Fraction) -> str:
    """An exact number: an integer, or a fraction of integers."""
    whole = number(value.numerator)
    return whole if value.denominator == 1 else f"{whole}/{number(value.denominator)}"


def _size(fact: PolicyFacts) -> str:
    return "-" if fact.row_bytes is None else format_fraction(fact.row_bytes)


def format_policies(policies: Policies, say: Say, ascii_only: bool = False, color: bool = False) -> str:
    """The table with one row for each policy; below it, why some policies do not support the model."""
    say = plain(say) if ascii_only else say
    columns: list[Column] = [
        (say("cache"), "", "left"),
        (say("logits"), "", "left"),
        (say("B a token"), "", "right"),
        (say("what it keeps"), "", "left"),
        (say("paper"), "", "left"),
    ]
    table = make_table(columns, ascii_only, footer=False)
    for fact in policies.facts:
        kind = say("lossless") if fact.lossless else say("lossy")
        table.add_row(fact.example, kind, _size(fact), Text(say(fact.promise)), fact.paper)
    title = say("model {model}, {dtype}: bytes of one token in all layers, while the cache keeps it")
    lines = [printable(title.format(model=policies.model, dtype=policies.dtype)), render(table, color)]
    for fact in policies.facts:
        if fact.refusal is not None:
            lines.append(f"{fact.example}{say(': ')}{explain(fact.refusal, say)}")
    return "\n".join(lines)
