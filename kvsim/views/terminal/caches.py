"""The output of `kvsim caches` on a terminal."""

from fractions import Fraction

from kvsim.costs.bytes.policies import Policies, PolicyFacts
from kvsim.i18n.language import Say, explain, plain
from kvsim.i18n.printable import printable
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import number


def format_fraction(value: Fraction) -> str:
    """An exact number: an integer, or a fraction of integers."""
    whole = number(value.numerator)
    return whole if value.denominator == 1 else f"{whole}/{number(value.denominator)}"


def _size(fact: PolicyFacts) -> str:
    return "-" if fact.row_bytes is None else format_fraction(fact.row_bytes)


def policies_parts(policies: Policies, say: Say) -> list[Part]:
    """The table with one row for each policy; below it, why some policies do not support the model."""
    columns = [
        Column("cache", say("cache"), "left"),
        Column("logits", say("logits"), "left"),
        Column("bytes", say("B a token")),
        Column("keeps", say("what it keeps"), "left", bend="wrap"),
        Column("paper", say("paper"), "left", bend="wrap"),
    ]
    table = Sheet("caches", columns)
    for fact in policies.facts:
        kind = say("lossless") if fact.lossless else say("lossy")
        table.add(fact.example, kind, _size(fact), say(fact.promise), fact.paper)
    title = say("model {model}, {dtype}: bytes of one token in all layers, while the cache keeps it")
    parts: list[Part] = [printable(title.format(model=policies.model, dtype=policies.dtype)), table]
    for fact in policies.facts:
        if fact.refusal is not None:
            parts.append(f"{fact.example}{say(': ')}{explain(fact.refusal, say)}")
    return parts


def format_policies(policies: Policies, say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim caches`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(policies_parts(policies, say), say, screen)
