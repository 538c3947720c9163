"""The entry point of the command `kvsim`: Ctrl-C is one line and exit code 130 already while modules are imported.

What the function needs before its guard are modules that Python has loaded itself.
"""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command with the arguments of the process, and exit."""
    try:
        from kvsim.cli import main as run

        run()
    except KeyboardInterrupt:
        _ignore_interrupts()
        from contextlib import suppress

        with suppress(OSError):
            os.write(2, b"\ninterrupted\n")
        sys.exit(INTERRUPTED)
    finally:
        _ignore_interrupts()


def _ignore_interrupts() -> None:
    """From here on Ctrl-C does not stop the end of the process, which would print a traceback."""
    from signal import SIG_IGN, SIGINT, signal

    signal(SIGINT, SIG_IGN)
    # Python started with -m ends by SIGINT if Ctrl-C came in code given as text, as that of a dataclass is, although
    # it was caught. It no longer does once other code given as text has run (CPython's run_eval_code_obj).
    exec("")
