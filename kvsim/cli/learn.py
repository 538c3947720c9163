"""`kvsim learn`: the exercises. Without a subcommand: check when a file is saved; through a pipe: print the status."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kvsim.cli.groups import Group
from kvsim.cli.options import Bar, Number, combine, common, json_option
from kvsim.i18n.language import Say, language_for_checks, language_of

Decorated = Callable[..., Any]


def command(say: Say) -> click.Command:
    @click.group(
        "learn", cls=Group, invoke_without_command=True,
        help=say("Exercises about KV caching, each checked so that the mistake is named. Without a subcommand: check"
                 " again whenever a file is saved; through a pipe: print how far you are."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim learn init learn\n  kvsim learn run 04",
    )  # fmt: skip
    @placed(say)
    @click.pass_context
    def learn(context: click.Context, folder: str | None) -> int | None:
        if context.invoked_subcommand is not None:
            context.obj = folder
            return None
        from kvsim.cli.learn_watch import print_status, watch

        with language_for_checks(language_of(say)):
            place = _find(folder)
            if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
                return watch(place, say)
            return print_status(place, say)

    for make in (_init, _run, _check, _list, _hint, _reset, _show, _solution, _words):
        learn.add_command(make(say))
    return learn


def placed(say: Say) -> Callable[[Decorated], Decorated]:
    """--dir, --lang and --debug."""
    place = click.option("--dir", "folder", metavar="DIR", help=say("The folder of the exercises; default: this one,"
                                                                   " or learn in it."))  # fmt: skip
    return combine(place, common(say))


def complete_exercise(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from kvsim.learn.exercise import list_exercises

    return [CompletionItem(e.id) for e in list_exercises() if e.id.startswith(incomplete)]


def one_exercise(function: Decorated) -> Decorated:
    """The argument ID."""
    return click.argument("id", metavar="ID", shell_complete=complete_exercise)(function)


def _find(folder: str | None) -> Path:
    """The learner's folder: of --dir, here or before the subcommand."""
    from kvsim.learn.folder import find_folder

    context = click.get_current_context(silent=True)
    given = folder or (context.obj if context is not None and isinstance(context.obj, str) else None)
    return find_folder(None if given is None else Path(given))


def _examples(say: Say, *lines: str) -> str:
    return say("Examples:") + "\n\n\b\n" + "\n".join(f"  kvsim learn {line}" for line in lines)


def _init(say: Say) -> click.Command:
    @click.command("init", help=say("Write the exercises into a folder; what is there stays."),
                   epilog=_examples(say, "init", "init learn --seed 7"))  # fmt: skip
    @click.argument("folder", metavar="[DIR]", default="learn")
    @click.option("--seed", type=Number(int), help=say("The learner's seed; by default it is drawn."))
    @common(say)
    def init(folder: str, seed: int | None) -> int:
        from kvsim.checks import check_whole
        from kvsim.i18n.printable import printable
        from kvsim.learn.exercise import list_exercises
        from kvsim.learn.folder import SEEDS, start

        if seed is not None:
            check_whole("--seed", seed, 0, SEEDS - 1)
        state = start(Path(folder), seed)
        click.echo(say("{count} exercises are in {folder}, seed {seed}").format(
            count=len(list_exercises()), folder=printable(folder), seed=state.seed
        ))  # fmt: skip
        click.echo(say("begin with: kvsim learn show 01 --dir {folder}").format(folder=printable(folder)))
        return 0

    return init


def _run(say: Say) -> click.Command:
    @click.command("run", help=say("Check one exercise, by default the first that is not passed."),
                   epilog=_examples(say, "run", "run 04 --lang zh"))  # fmt: skip
    @click.argument("id", metavar="[ID]", required=False, shell_complete=complete_exercise)
    @placed(say)
    def run(id: str | None, folder: str | None) -> int:
        from kvsim.cli.learn_watch import check_one, current
        from kvsim.learn.exercise import find_exercise

        with language_for_checks(language_of(say)):
            chosen = find_exercise(id) if id else None
            place = _find(folder)
            return 0 if check_one(place, chosen or current(place), say).done else 1

    return run


def _check(say: Say) -> click.Command:
    @click.command(
        "check",
        help=say("Check every exercise (--all). Exit code: 0 all are passed or skipped, 1 some are not, 2 usage, 4 no"
                 " exercises in the folder. Makes a lost or damaged state again."),
        epilog=_examples(say, "check --all", "check --all --json --dir learn"),
    )  # fmt: skip
    @click.option("--all", "everything", is_flag=True, help=say("All exercises."))
    @json_option(say, "learn")
    @placed(say)
    def check(everything: bool, as_json: bool, folder: str | None) -> int:
        from kvsim.errors import UsageError
        from kvsim.learn.checking import check_all
        from kvsim.learn.exercise import list_exercises
        from kvsim.learn.folder import restore_state, write_state
        from kvsim.schemas import dump
        from kvsim.views.json.learn import learn_dict
        from kvsim.views.terminal.learn import format_outcomes

        if not everything:
            raise UsageError("kvsim learn check takes --all; one exercise: kvsim learn run ID")
        outcomes = []
        with language_for_checks(language_of(say)), Bar(say("exercises")) as progress:
            place = _find(folder)
            state = restore_state(place)
            for number, outcome in enumerate(check_all(place, state.seed), start=1):
                outcomes.append(outcome)
                state = state.with_outcome(outcome.exercise.id, outcome.done)
                write_state(place, state)  # after each: Ctrl-C loses nothing
                progress(number, len(list_exercises()))
        click.echo(dump(learn_dict(state.seed, outcomes)) if as_json else format_outcomes(outcomes, say))
        return 0 if all(one.done for one in outcomes) else 1

    return check


def _list(say: Say) -> click.Command:
    @click.command("list", help=say("List the exercises, and which are passed."),
                   epilog=_examples(say, "list", "list --dir learn"))  # fmt: skip
    @placed(say)
    def list_all(folder: str | None) -> int:
        from kvsim.errors import FileError
        from kvsim.learn.exercise import list_exercises
        from kvsim.learn.folder import read_state
        from kvsim.views.terminal.learn import format_list

        try:
            place = _find(folder)
        except FileError:
            if folder is not None:
                raise
            place = None  # before init
        passed = () if place is None else read_state(place).passed
        click.echo(format_list(list_exercises(), passed, say))
        return 0

    return list_all


def _hint(say: Say) -> click.Command:
    @click.command("hint", help=say("Show the hints of an exercise, one more each time."),
                   epilog=_examples(say, "hint 04", "hint kv_cache --lang zh"))  # fmt: skip
    @one_exercise
    @placed(say)
    def hint(id: str, folder: str | None) -> int:
        from kvsim.cli.learn_watch import show_hint
        from kvsim.learn.exercise import find_exercise

        return show_hint(_find(folder), find_exercise(id), say)

    return hint


def _reset(say: Say) -> click.Command:
    @click.command("reset", help=say("Write an exercise as it was at the start; your file is kept as NAME.bak."),
                   epilog=_examples(say, "reset 04", "reset kv_cache"))  # fmt: skip
    @one_exercise
    @placed(say)
    def reset(id: str, folder: str | None) -> int:
        from kvsim.cli.learn_watch import reset_one
        from kvsim.learn.exercise import find_exercise

        return reset_one(_find(folder), find_exercise(id), say)

    return reset


def _show(say: Say) -> click.Command:
    @click.command("show", help=say("Show the task of an exercise, and the result of your file."),
                   epilog=_examples(say, "show 04", "show 04 --lang zh"))  # fmt: skip
    @one_exercise
    @placed(say)
    def show(id: str, folder: str | None) -> int:
        from kvsim.cli.learn_watch import show_one
        from kvsim.learn.exercise import find_exercise

        with language_for_checks(language_of(say)):
            return show_one(_find(folder), find_exercise(id), say)

    return show


def _solution(say: Say) -> click.Command:
    @click.command("solution", help=say("Print a solution, once yours has passed."),
                   epilog=_examples(say, "solution 04", "solution kv_cache"))  # fmt: skip
    @one_exercise
    @placed(say)
    def solution(id: str, folder: str | None) -> int:
        from kvsim.learn.exercise import find_exercise
        from kvsim.learn.folder import read_state
        from kvsim.learn.solutions import read_solution

        exercise, state = find_exercise(id), read_state(_find(folder))
        if exercise.id not in state.passed:
            text = say("{id} is not passed yet: kvsim learn hint {id} helps")
            click.echo(text.format(id=exercise.id))
            return 1
        click.echo(read_solution(exercise, state.seed), nl=False)
        return 0

    return solution


def _words(say: Say) -> click.Command:
    @click.command("words", help=say("Explain twenty terms, each with a command that shows it."),
                   epilog=_examples(say, "words", "words prefill"))  # fmt: skip
    @click.argument("word", metavar="[WORD]", required=False)
    @common(say)
    def words(word: str | None) -> int:
        from kvsim.errors import UsageError, shortened
        from kvsim.learn.glossary import read_words
        from kvsim.views.terminal.learn import format_words

        known = read_words(language_of(say))
        chosen = [one for one in known if word is None or word in (one.id, one.name)]
        if not chosen:
            raise UsageError("unknown word {word}: use one of {known}", word=shortened(word),
                             known=", ".join(one.id for one in known))  # fmt: skip
        click.echo(format_words(chosen, say))
        return 0

    return words
