"""`kvsim doctor`: what is installed, what works, and what the terminal can show."""

import sys

import click

from kvsim.cli.options import ORIGINAL_ENCODINGS, common, json_option
from kvsim.cli.screen import find_screen, show
from kvsim.errors import UsageError
from kvsim.i18n.language import Say


def show_gpu(say: Say, device: str | None) -> int:
    """Compare every small model on the GPU with NumPy, one line each. The exit code: 1 if one differs."""
    from kvsim.arrays import get_backend
    from kvsim.arrays.cupy_arrays import describe
    from kvsim.doctor.against_numpy import compare_all
    from kvsim.doctor.health import find_versions
    from kvsim.views.terminal.health import format_comparison, format_facts

    backend, screen = get_backend("cupy", device), find_screen()
    facts = {name: found for name, found in find_versions().items() if found}
    show(format_facts({**facts, **describe(backend)}, screen), screen)
    click.echo(say("largest difference from NumPy's float64 over max|logit|, greedy ids, every product:"))
    agreed, wrong = 0, 0
    for compared in compare_all(backend):
        show(format_comparison(compared, screen), screen)
        agreed, wrong = agreed + compared.agrees, wrong + (not compared.agrees)
    text = say("{agreed} agree, {wrong} do not") if wrong else say("all {agreed} agree")
    click.echo(text.format(agreed=agreed, wrong=wrong))
    return 1 if wrong else 0


def show_health(say: Say, as_json: bool) -> int:
    """Try everything out and print it. The exit code: 1 if something installed does not work."""
    from kvsim.doctor.health import examine
    from kvsim.views.json.doctor import to_json
    from kvsim.views.terminal.health import format_health

    health = examine(ORIGINAL_ENCODINGS.get("stdout", sys.stdout.encoding if sys.stdout else "?"))
    screen = find_screen()
    click.echo(to_json(health) if as_json else format_health(health, say, screen))
    return 0 if health.works else 1


def command(say: Say) -> click.Command:
    @click.command(
        "doctor",
        help=say("Show versions, backends that work, BLAS and threads, the terminal, and the demo model."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim doctor --lang zh\n  kvsim doctor --gpu > report.txt",
    )
    @click.option(
        "--gpu",
        is_flag=True,
        help=say("Compare every model family on the GPU (cupy) with NumPy, and print a report."),
    )
    @click.option("--device", help=say("The GPU of --gpu: cuda, cuda:1."))
    @json_option(say, "doctor")
    @common(say)
    def doctor(gpu: bool, device: str | None, as_json: bool) -> int:
        if gpu and as_json:
            raise UsageError("--gpu prints text only: leave out --json")
        if gpu:
            return show_gpu(say, device)
        if device is not None:
            raise UsageError("--device goes with --gpu")
        return show_health(say, as_json)

    return doctor
