"""The re-enacted public reports as a table in Markdown: `python -m tests.testing.strangers.table`. Of each: is it
caught by default, what it is named, and the smallest feed that shows it. The exit code is 1 if one is not named."""

import re
import sys
from pathlib import Path

from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.feeds.chunking import choose_feeds
from kvsim.testing.subject.weights import Sizes
from tests.testing.feeds.test_chunking import BEFORE, BEFORE_WINDOWED
from tests.testing.strangers import edited, quantised, reports
from tests.testing.strangers.every import Stranger, check

ELSEWHERE = {
    "huggingface/transformers#47433": ("edited", edited.NothingIsFalse, "crop_zero_keeps_all"),
    "Avarok-Cybersecurity/atlas#1193": ("edited", edited.SlotsInCommon, "fork_shares_tail"),
    "ml-explore/mlx-swift-lm#424": ("edited", edited.RingCropped, "ring_rolled_back"),
    "ml-explore/mlx-swift-lm#584": ("edited", edited.WindowCropped, "ring_rolled_back"),
    "rajveer43/VeloxQuant-MLX#162": ("quantised", quantised.ScalePerNumber, "quantised_wrong_group"),
    "ml-explore/mlx-lm#1396": ("reports", reports.OffsetReadTwice, "rope_query_after_append"),
    "huggingface/transformers#46612": ("edited", edited.StaysInPlace, "reorder_not_done"),
    "ggml-org/llama.cpp#3802": ("edited", edited.SameObjects, "reorder_not_copied"),
}


def every_report():
    """{report: the stranger that re-enacts it}."""
    text = Path(reports.__file__).read_text(encoding="utf-8")
    found = re.findall(r"^class (\w+)\(.*# report: (\S+): (\w+)$", text, re.MULTILINE)
    mine = {report: Stranger("reports", getattr(reports, cls), id) for cls, report, id in found}
    return mine | {report: Stranger(*one) for report, one in ELSEWHERE.items()}


def smallest_of(stranger, facts):
    """The smallest feed that fails; where none of up to six tokens does, the shortest of the check. Of a mistake in an
    edit, what the bank says is fed before it."""
    mistake = BANK[stranger.expected]
    if mistake.edits:
        return f"{list(mistake.smallest)}, {mistake.edits}"
    return str(facts["smallest"] or min(facts["failing"], key=sum))


def row(report, stranger):
    """The cells of a report, and whether it is named, and all its twins know it."""
    try:
        check(stranger, "float64")
    except OracleError as error:
        ids = error.facts["diagnosis"]
        named = ids == [stranger.expected] and report in BANK[stranger.expected].twin
        return (report, "yes", " or ".join(ids), smallest_of(stranger, error.facts)), named
    return (report, "no", "", ""), False


def main():
    print("| report | caught | named | smallest feed |\n|---|---|---|---|")
    rows = [row(*one) for one in every_report().items()]
    for cells, _ in rows:
        print(f"| {' | '.join(cells)} |")
    named = sum(right for _, right in rows)
    plain, windowed = (sum(map(sum, choose_feeds(Sizes(window=window).to_config()))) for window in (None, 4))
    print(f"\n{len(rows)} reports, {named} named. Tokens fed by default: {plain} (before there were feeds for these:"
          f" {BEFORE['dynamic']}), with a window of 4: {windowed} ({BEFORE_WINDOWED[4]}).")  # fmt: skip
    return int(named < len(rows))


if __name__ == "__main__":
    sys.exit(main())
