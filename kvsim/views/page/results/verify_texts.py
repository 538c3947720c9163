"""The texts of the page of `kvsim verify`."""

from kvsim.i18n.language import Say


def verify_keys(say: Say) -> list[tuple[str, str]]:
    """The page's own keys, and what each does."""
    return [("↑ ↓ ← →", say("inside a grid: from cell to cell; Tab enters and leaves it"))]


def verify_texts(say: Say) -> dict[str, str]:
    """Each text that static/kinds/verify.js shows, by its key, without those of the failure itself."""
    return {
        "title": say("kvsim verify: {target}"),
        "outcome_pass": say("It gives what the reference gives"),
        "outcome_fail": say("Yours beside the reference"),
        "outcome_unfinished": say("There is nothing to compare yet"),
        "tab_check": say("Diagnosis"),
        "tab_report": say("Report"),
        "report_name": say("the report, as kvsim verify prints it"),
        "got": say("yours"),
        "expected": say("reference"),
        "wrong_values": say("wrong values"),
        "of": say("of {total}"),
        "largest": say("largest difference"),
        "allowed": say("allowed {value}"),
        "first_got": say("first place: yours"),
        "first_expected": say("first place: reference"),
        "who": say("Who sees whom"),
        "grid_got": say("yours: queries and keys"),
        "grid_expected": say("reference: queries and keys"),
        "rows_are": say("Rows are queries, columns are keys."),
        "skipped": say("The first {n} keys are not drawn."),
        "sign_seen": say("seen"),
        "sign_unseen": say("masked"),
        "sign_extra": say("seen but must be masked"),
        "sign_missing": say("masked but must be seen"),
        "cell_seen": say("Query {q} sees key {s}, as it must."),
        "cell_unseen": say("Query {q} does not see key {s}, as it must not."),
        "cell_extra": say("Query {q} sees key {s}, which must be masked."),
        "cell_missing": say("Query {q} does not see key {s}, which it must see."),
        "inspector": say("the cell in focus"),
        "sentence": say(
            "Query {q}, {step} of {last}: yours sees {got}; the reference sees {expected}. Different: {wrong}."
        ),
        "none": say("nothing"),
        "where": say("The first place that differs"),
        "why": say("The mistake"),
        "feeds": say("The smallest that fails"),
        "command": say("See it again"),
    }
