"""The page of `kvsim claims`, in Markdown."""

from itertools import groupby

from kvsim.costs.claims.claim import Claim, tell
from kvsim.errors import Words
from kvsim.i18n.language import Say

SIGNS = {"right": "✓", "rounded": "≈", "wrong": "✗"}
VERDICTS = {"right": Words("right"), "rounded": Words("rounded"), "wrong": Words("wrong")}
QUESTIONS = {  # which claim answers it
    "training": Words("Why does training need no cache?"),
    "context-limit": Words("What limits the context?"),
    "models": Words("Which models have a cache?"),
}


def exactly(claim: Claim, say: Say) -> str:
    """What is exact, in numbers."""
    return say(claim.exact).format(**{name: tell(value) for name, value in claim.values.items()})


def _verdict(claim: Claim, say: Say) -> str:
    return f"{SIGNS[claim.verdict]} {say(VERDICTS[claim.verdict])}"


def _rows(claims: list[Claim], say: Say) -> list[str]:
    head = [say("section"), say("the text says"), say("exactly"), say("verdict")]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    for claim in claims:
        said = say(claim.claim).format(said=claim.said)
        lines.append(f"| {claim.section} | {said} | {exactly(claim, say)} | {_verdict(claim, say)} |")
    return lines


def tell_claims(claims: list[Claim], say: Say) -> str:
    """Tables, one for each section of the chapter and one for the article; then short answers."""
    lines = [
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
        lines += ["", f"## {title}", "", *_rows(list(found), say)]
    lines += ["", f"## {say('Short answers')}"]
    known = {claim.id: claim for claim in claims}
    for id_, question in QUESTIONS.items():
        lines += ["", f"**{say(question)}** {exactly(known[id_], say)}"]
    told = {name: sum(claim.verdict == name for claim in claims) for name in VERDICTS}
    lines += ["", say("{all} claims: {right} right, {rounded} rounded, {wrong} wrong.").format(all=len(claims), **told)]
    return "\n".join(lines)
