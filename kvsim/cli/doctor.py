"""`kvsim doctor`: what is installed, what works, and what the terminal can show."""

import sys

import click

from kvsim.cli.options import ENVIRONMENT, common
from kvsim.views.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "doctor",
        help=say("Show versions, backends that work, BLAS and threads, the terminal, and the demo model."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim doctor\n  kvsim doctor --lang zh",
    )
    @common(say)
    def doctor() -> int:
        from kvsim.diagnosis import examine
        from kvsim.views.health import tell_health

        health = examine(ENVIRONMENT.get("stdout", sys.stdout.encoding if sys.stdout else "?"))
        click.echo(tell_health(health, say))
        return 0 if health.fine else 1

    return doctor
