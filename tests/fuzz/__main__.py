"""`python -m tests.fuzz TARGET [--minutes M | --cases N | --case K]`: fuzz one target, or all of them."""

import argparse
import sys
from pathlib import Path

from tests.fuzz.harness import Found, list_targets, run, run_child


def show(name: str, found: Found) -> None:
    """One line of counts, every refusal, and everything else that happened."""
    print(f"{name}: {found.inputs:,} inputs, {found.answers:,} answers, {sum(found.refusals.values()):,} refusals of"
          f" {len(found.refusals)} kinds, {len(found.others)} others")  # fmt: skip
    for template, number in sorted(found.refusals.items(), key=lambda item: -item[1]):
        print(f"  {number:6,}  {template}")
    for other in found.others[:40]:
        print(f"  OTHER {other}")


def main() -> int:
    """Exit 1 if anything but answers and refusals came."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=["all", *list_targets()])
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--progress", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        run_child(asked.target, asked.cases, asked.minutes, asked.first, asked.progress)
        return 0
    cases, first = (1, asked.case) if asked.case is not None else (asked.cases, asked.first)
    bad = 0
    for name in list_targets() if asked.target == "all" else [asked.target]:
        found = run(name, cases, asked.minutes, first)
        show(name, found)
        bad += len(found.others)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
