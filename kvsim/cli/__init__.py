"""The command `kvsim`. A command is a file with `command(say)` and one line in `COMMANDS`.

Nothing heavy is imported before a command runs: `kvsim --help` needs no NumPy.
"""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from kvsim import __version__
from kvsim.errors import KvsimError, UsageError
from kvsim.views.language import Say, choose_language, explain, words

COMMANDS = {
    "doctor": "kvsim.cli.doctor",
    "schema": "kvsim.cli.schema",
    "trace": "kvsim.cli.trace",
}
INTERRUPTED = 128 + signal.SIGINT


class LazyGroup(click.Group):
    """Makes a command, in the language of `say`, when it is asked for."""

    def __init__(self, say: Say) -> None:
        self.say = say
        super().__init__(
            "kvsim",
            help=say("KV caching in transformers: the same generation with and without a cache, every number counted."),
            epilog=say("Examples:") + '\n\n\b\n  kvsim trace "中华人民"\n  kvsim doctor',
        )
        click.version_option(__version__, prog_name="kvsim")(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name]).command(self.say)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(
                "unknown command {name}: use one of {known}", name=repr(args[0]), known=", ".join(COMMANDS)
            )
        return super().resolve_command(ctx, args)


def _options(argv: Sequence[str]) -> list[str]:
    """The arguments before a lone `--`."""
    return list(argv[: argv.index("--")] if "--" in argv else argv)


def _asked_language(argv: Sequence[str]) -> str | None:
    """What --lang says: looked up before anything else, since even help is in that language."""
    options = _options(argv)
    for i, word in enumerate(options):
        if word == "--lang" and i + 1 < len(options):
            return options[i + 1]
        if word.startswith("--lang="):
            return word.removeprefix("--lang=")
    return None


def _describe(error: click.ClickException, say: Say) -> str:
    """What click found wrong with the arguments, in one line."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "kvsim"
    see = say("see {command} --help").format(command=command)
    if isinstance(error, click.NoSuchOption):
        return say("unknown option {option}: {see}").format(option=error.option_name, see=see)
    if isinstance(error, click.MissingParameter):
        name = error.param.make_metavar(error.ctx) if error.param and error.ctx else error.param_hint
        return say("{name} is missing: {see}").format(name=name, see=see)
    return f"{error.format_message()} ({see})"


def _close_stdout() -> None:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(argv: Sequence[str]) -> int:
    """The exit code of `kvsim *argv`: 0 fine, 1 a check failed, 2 usage, 3 backend, 4 file, 130 Ctrl-C."""
    say = words("en")
    try:
        say = words(choose_language(_asked_language(argv), os.environ))
        result = LazyGroup(say).main(list(argv), prog_name="kvsim", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        _close_stdout()
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo(say("interrupted"), err=True)
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except Exception as error:
        if "--debug" in _options(argv):
            raise
        if isinstance(error, click.ClickException):
            message, code = _describe(error, say), 2
        elif isinstance(error, KvsimError):
            message, code = explain(error, say), error.exit_code
        elif isinstance(error, MemoryError):
            message, code = say("out of memory: use a shorter text, a smaller model or another cache"), 1
        elif isinstance(error, OSError):
            message, code = say("cannot write or read: {reason}").format(reason=error), 1
        else:
            raise
        click.echo(say("kvsim: error: {message}").format(message=message), err=True)
        return code


def main() -> None:
    """The entry point. Output is UTF-8 in any locale: the same command prints the same bytes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))
