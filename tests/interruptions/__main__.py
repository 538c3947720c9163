"""`python -m tests.interruptions`: interrupt everything, and print a line for each call and cache."""

import argparse
import sys
import time

from tests.interruptions import counting, steps, threads
from tests.interruptions.injector import InjectedError

ERRORS = {"interrupt": KeyboardInterrupt, "error": InjectedError}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interruptions")
    parser.add_argument("only", nargs="?", default="", help="only names that contain this")
    parser.add_argument("--every", type=int, default=1, help="each N-th line")
    parser.add_argument("--opcodes", action="store_true", help="every bytecode instruction, not only every line")
    parser.add_argument("--error", choices=ERRORS, default="interrupt")
    given = parser.parse_args()
    how = {"opcodes": given.opcodes, "error": ERRORS[given.error]}
    begun, tried, wrong = time.time(), 0, 0
    work = [(subject.name, counting.run, subject) for subject in counting.list_subjects()]
    work += [(case.name, steps.run, case) for case in (*steps.list_operations(), *steps.list_cases())]
    for name, run, what in work:
        if given.only in name:
            report = run(what, given.every, **how)
            tried += sum(report.counts.values())
            wrong += len(report.wrong)
            print(f"{name}: {report}", flush=True)
    if given.only in "threads":
        different = threads.run(8, 200)
        wrong += different
        print(f"threads: 8 x 200 runs on one model, {different} ledgers differ")
    print(f"{tried} interruptions, {wrong} wrong, {time.time() - begun:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
