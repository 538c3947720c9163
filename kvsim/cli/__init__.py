"""The command line `kvsim`. Each command is a file with a function `command(say)`, and an entry of COMMANDS.

Modules that import NumPy are imported when a command runs, so that --help and completion are fast.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from kvsim import __version__
from kvsim.cli.groups import Group
from kvsim.cli.help import Context
from kvsim.cli.options import ORIGINAL_ENCODINGS, note
from kvsim.errors import KvsimError
from kvsim.i18n.language import Say, choose_language, explain, words
from kvsim.i18n.printable import printable

COMMANDS = {
    "bench": "kvsim.cli.bench",
    "caches": "kvsim.cli.caches",
    "chat": "kvsim.cli.chat",
    "claims": "kvsim.cli.claims",
    "compare": "kvsim.cli.compare",
    "cost": "kvsim.cli.cost",
    "doctor": "kvsim.cli.doctor",
    "explain": "kvsim.cli.explain_mistake",
    "learn": "kvsim.cli.learn",
    "memory": "kvsim.cli.memory",
    "plan": "kvsim.cli.plan",
    "schema": "kvsim.cli.schema",
    "tolerance": "kvsim.cli.tolerance",
    "trace": "kvsim.cli.trace",
    "vectors": "kvsim.cli.vectors",
    "verify": "kvsim.cli.verify",
}
INTERRUPTED = 128 + signal.SIGINT


class LazyGroup(Group):
    """The group of COMMANDS; makes a command, in the language of `say`, when it is looked up."""

    context_class = Context

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
        command.context_class = Context
        return command


def _before_dashes(argv: Sequence[str]) -> list[str]:
    """The arguments before `--`, after which everything is positional."""
    return list(argv[: argv.index("--")] if "--" in argv else argv)


def _language_option(argv: Sequence[str]) -> str | None:
    """The value of --lang, read before click parses the arguments, because help texts are in that language too."""
    options = _before_dashes(argv)
    for i, word in enumerate(options):
        if word == "--lang" and i + 1 < len(options):
            return options[i + 1]
        if word.startswith("--lang="):
            return word.removeprefix("--lang=")
    return None


def _describe(error: click.ClickException, argv: Sequence[str], say: Say) -> str:
    """click's usage error in one line, in the language of `say`."""
    command = next((f"kvsim {word}" for word in argv[:1] if word in COMMANDS), "kvsim")
    see = say("see {command} --help").format(command=command)
    if isinstance(error, click.NoSuchOption):
        return say("unknown option {option}: {see}").format(option=error.option_name, see=see)
    if isinstance(error, click.BadOptionUsage):
        if "requires" in error.message:
            return say("{option} needs a value: {see}").format(option=error.option_name, see=see)
        return say("{option} takes no value: {see}").format(option=error.option_name, see=see)
    if error.message.startswith("Got unexpected extra argument"):
        return say("more arguments than expected: {see}").format(see=see)
    if isinstance(error, click.MissingParameter):
        name = error.param.make_metavar(error.ctx) if error.param and error.ctx else error.param_hint
        return say("{name} is missing: {see}").format(name=name, see=see)
    return f"{error.format_message()} ({see})"


def _close_stdout() -> None:
    """After the reader closed stdout: redirect it to the null device, so that the flush at exit does not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failure(error: Exception, argv: Sequence[str], say: Say) -> tuple[str, int] | None:
    """The message and the exit code for an error; None for an unexpected one, a bug in kvsim."""
    if isinstance(error, click.ClickException):
        return _describe(error, argv, say), 2
    if isinstance(error, KvsimError):
        return explain(error, say), error.exit_code
    if isinstance(error, MemoryError):
        return say("out of memory: use a shorter text, a smaller model or another cache"), 1
    if isinstance(error, OSError):
        return say("cannot write or read: {reason}").format(reason=error), 1
    return None


def run(argv: Sequence[str]) -> int:
    """Run `kvsim *argv`. The exit code: 0 success, 1 a check failed or output could not be written, 2 usage, 3 missing
    backend, 4 bad file, 130 Ctrl-C."""
    say = words("en")
    try:
        say = words(choose_language(_language_option(argv), os.environ))
        result = LazyGroup(say).main(list(argv), prog_name="kvsim", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        _close_stdout()
        return 1
    except (KeyboardInterrupt, click.Abort):
        note(say("interrupted"))
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        note(error.format_message())
        return 2
    except Exception as error:
        failure = _failure(error, argv, say)
        if "--debug" in _before_dashes(argv):
            traceback.print_exc()
        if failure is None:
            raise
        message, code = failure
        note(say("kvsim: error: {message}").format(message=printable(message)))
        return code


def main() -> None:
    """The entry point. Output is UTF-8 in every locale, so that the same command prints the same bytes."""
    if sys.stdout is not None:
        ORIGINAL_ENCODINGS["stdout"] = sys.stdout.encoding
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(run([os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]]))
