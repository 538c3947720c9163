"""`kvsim doctor`: what is installed, what works, and what the terminal can show."""

import sys

import click

from kvsim.cli.options import ENVIRONMENT, common
from kvsim.errors import UsageError
from kvsim.i18n.language import Say


def _report(say: Say, device: str | None) -> int:
    """Every small model on the GPU against NumPy, one line each as it comes."""
    from kvsim.arrays import get_backend
    from kvsim.arrays.cupy_arrays import describe
    from kvsim.doctor.against_numpy import compare_all
    from kvsim.doctor.health import find_versions
    from kvsim.views.terminal.health import tell_comparison, tell_heading

    backend = get_backend("cupy", device)
    facts = {name: found for name, found in find_versions().items() if found}
    click.echo(tell_heading({**facts, **describe(backend)}))
    click.echo(say("largest difference from NumPy's float64 over max|logit|, greedy ids, every product:"))
    agreed, wrong = 0, 0
    for compared in compare_all(backend):
        click.echo(tell_comparison(compared))
        agreed, wrong = agreed + compared.agrees, wrong + (not compared.agrees)
    told = say("{agreed} agree, {wrong} do not") if wrong else say("all {agreed} agree")
    click.echo(told.format(agreed=agreed, wrong=wrong))
    return 1 if wrong else 0


def command(say: Say) -> click.Command:
    @click.command(
        "doctor",
        help=say("Show versions, backends that work, BLAS and threads, the terminal, and the demo model."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim doctor --lang zh\n  kvsim doctor --gpu > report.txt",
    )
    @click.option(
        "--gpu", is_flag=True, help=say("Compare every family on the GPU (cupy) with NumPy: a report to attach.")
    )
    @click.option("--device", help=say("The GPU of --gpu: cuda, cuda:1."))
    @common(say)
    def doctor(gpu: bool, device: str | None) -> int:
        if gpu:
            return _report(say, device)
        if device is not None:
            raise UsageError("--device goes with --gpu")

        from kvsim.doctor.health import examine
        from kvsim.views.terminal.health import tell_health

        health = examine(ENVIRONMENT.get("stdout", sys.stdout.encoding if sys.stdout else "?"))
        click.echo(tell_health(health, say))
        return 0 if health.fine else 1

    return doctor
