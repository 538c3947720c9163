"""The output of `kvsim claims`: a page in Markdown, with its tables drawn on a terminal."""

from itertools import groupby

from kvsim.costs.claims.claim import Claim
from kvsim.errors import Words
from kvsim.i18n.language import Say
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out

SIGNS = {"right": "✓", "rounded": "≈", "wrong": "✗"}
VERDICTS = {"right": Words("right"), "rounded": Words("rounded"), "wrong": Words("wrong")}
QUESTIONS = {  # by the claim that answers it
    "training": Words("Why does training need no cache?"),
    "context-limit": Words("What limits the context?"),
    "models": Words("Which models have a cache?"),
}


def format_exact(claim: Claim, say: Say) -> str:
    """The exact statement with its values."""
    return say(claim.exact).format(**claim.formatted)


def _verdict(claim: Claim, say: Say) -> str:
    return f"{SIGNS[claim.verdict]} {say(VERDICTS[claim.verdict])}"


def _sheet(claims: list[Claim], say: Say) -> Sheet:
    """The claims of one section."""
    columns = [
        Column("section", say("section"), "left"),
        Column("said", say("the text says"), "left", bend="wrap"),
        Column("exact", say("exactly"), "left", bend="wrap"),
        Column("verdict", say("verdict"), "left"),
    ]
    table = Sheet("claims", columns)
    for claim in claims:
        said = say(claim.claim).format(said=claim.said)
        table.add(claim.section, said, format_exact(claim, say), _verdict(claim, say))
    return table


def _in_markdown(sheet: Sheet) -> list[str]:
    """A table in Markdown."""
    rows = [[column.heading for column in sheet.columns], *sheet.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---" * len(sheet.columns) + "|", *lines[1:]]


def claims_parts(claims: list[Claim], say: Say) -> list[Part]:
    """The page: a table for each section of the chapter and one for the article, then short answers."""
    parts: list[Part] = [
        f"# {say('What the texts on KV caching claim, and what is exact')}",
        "",
        say(
            "Written by `kvsim claims`: every number on the right is computed, and the verdict with it. Right: exact;"
            " rounded: at most 5 % off; wrong: more than that, or the other way round. The texts' own figures,"
            " published times among them, are inputs. MB and GB are 10⁶ and 10⁹ bytes."
        ),
        "",
        say(
            "The texts: chapter 22 of W. Zhang's book on transformers (2026, waylandz.com/llm-transformer-book), and"
            " the article on KV caching by not-lain on Hugging Face (2025, huggingface.co/blog/not-lain/kv-caching)."
        ),
    ]
    for section, found in groupby(claims, key=lambda claim: ".".join(claim.section.split(".")[:2])):
        title = say("The article") if section == "HF" else say("Section {section}").format(section=section)
        parts += ["", f"## {title}", "", _sheet(list(found), say)]
    parts += ["", f"## {say('Short answers')}"]
    known = {claim.id: claim for claim in claims}
    for id_, question in QUESTIONS.items():
        parts += ["", f"**{say(question)}** {format_exact(known[id_], say)}"]
    totals = {name: sum(claim.verdict == name for claim in claims) for name in VERDICTS}
    count = say("{all} claims: {right} right, {rounded} rounded, {wrong} wrong.").format(all=len(claims), **totals)
    return [*parts, "", count]


def format_claims(claims: list[Claim], say: Say, screen: Screen = ANYWHERE) -> str:
    """The page: Markdown, or for a terminal, which has a width, lines and tables that fit it."""
    parts = claims_parts(claims, say)
    if screen.width is None:
        parts = [line for part in parts for line in (_in_markdown(part) if isinstance(part, Sheet) else [part])]
    return lay_out(parts, say, screen)
