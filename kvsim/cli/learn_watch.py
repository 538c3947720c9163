"""`kvsim learn` at work: one exercise after another, checked when its file is saved or a key is pressed."""

from pathlib import Path

import click

from kvsim.errors import FileError
from kvsim.i18n.language import Say, language_of
from kvsim.i18n.printable import printable
from kvsim.learn.checking import DONE, NOT_STARTED, Outcome, check
from kvsim.learn.exercise import Exercise, list_exercises
from kvsim.learn.folder import State, read_state, reset, write_state
from kvsim.learn.watching import QUIT, import_watch, watch_events
from kvsim.views.terminal.learn import fold, format_head, format_hints, format_keys, format_list, format_outcome


def current(folder: Path, after: int = 0) -> Exercise:
    """The first exercise after that number that is not passed; else the first of all that is not; else the last."""
    passed = read_state(folder).passed
    left = [one for one in list_exercises() if one.id not in passed]
    return next((one for one in left if one.number > after), (left or list_exercises()[-1:])[0])


def head(folder: Path, exercise: Exercise, state: State) -> str:
    """The first line above a result."""
    done = sum(one.id in state.passed for one in list_exercises())
    path = folder / next(iter(exercise.files))
    return format_head(exercise, done, len(list_exercises()), str(path))


def check_one(folder: Path, exercise: Exercise, say: Say) -> Outcome:
    """Check an exercise, print the result and remember it."""
    outcome = check(exercise, folder, read_state(folder).seed)
    state = read_state(folder).with_outcome(exercise.id, outcome.done)  # a hint may have been shown meanwhile
    write_state(folder, state)
    click.echo(head(folder, exercise, state))
    click.echo(format_outcome(outcome, state.hints.get(exercise.id, 0), say))
    if outcome.status in DONE:
        click.echo(fold(_what_next(folder, exercise, state, say)))
    elif outcome.status == NOT_STARTED:
        click.echo("  " + say("the task: kvsim learn show {number:02}").format(number=exercise.number))
    return outcome


def _what_next(folder: Path, exercise: Exercise, state: State, say: Say) -> str:
    if len(state.passed) >= len(list_exercises()):
        return say("all exercises are passed; another solution: kvsim learn solution {number:02}").format(
            number=exercise.number
        )
    after = current(folder, exercise.number)
    return say("another solution: kvsim learn solution {number:02}; next: {next:02} {id}").format(
        number=exercise.number, next=after.number, id=after.id
    )


def print_status(folder: Path, say: Say) -> int:
    """Print how far the learner is, and the next exercise."""
    state = read_state(folder)
    click.echo(format_list(list_exercises(), state.passed, say))
    after = current(folder)
    if after.id in state.passed:
        click.echo(fold(_what_next(folder, after, state, say)))
        return 0
    click.echo(say("next: kvsim learn show {number:02}, then kvsim learn run {number:02}").format(number=after.number))
    return 0


def show_hint(folder: Path, exercise: Exercise, say: Say) -> int:
    """Print the hints so far and one more."""
    state = read_state(folder).with_hint(exercise.id)
    write_state(folder, state)
    click.echo(format_hints(exercise, state.hints[exercise.id], say))
    return 0


def reset_one(folder: Path, exercise: Exercise, say: Say) -> int:
    """Write the exercise's files as they were at the start."""
    state = read_state(folder)
    kept = reset(folder, exercise, state.seed)
    write_state(folder, state.with_outcome(exercise.id, False))
    for name in kept:
        click.echo(say("your file is kept as {file}").format(file=printable(str(folder / name))))
    click.echo(say("{id} is as it was at the start").format(id=exercise.id))
    return 0


def show_task(folder: Path, exercise: Exercise, say: Say) -> None:
    """Print the task."""
    text = exercise.fill(exercise.text(language_of(say)), read_state(folder).seed)
    click.echo(fold(text.rstrip()))


def show_one(folder: Path, exercise: Exercise, say: Say) -> int:
    """Print the task, then the result of the learner's file."""
    show_task(folder, exercise, say)
    click.echo()
    check_one(folder, exercise, say)
    return 0


def watch(folder: Path, say: Say) -> int:
    """Check the exercise at hand until q is pressed."""
    exercise = current(folder)
    show_task(folder, exercise, say)
    click.echo()
    check_one(folder, exercise, say)
    if import_watch() is None:
        click.echo(fold(say('saved files are not noticed without watchfiles (pip install ".[learn]"): press r')))
    click.echo(format_keys(say))
    for event in watch_events(folder):
        if event.key == QUIT:
            break
        try:
            exercise = act(event.key, event.file, folder, exercise, say)
        except FileError as error:
            click.echo(fold(str(error)))
    return 0


def act(key: str, file: str, folder: Path, exercise: Exercise, say: Say) -> Exercise:
    """What a key, or a saved file, does; the exercise at hand afterwards."""
    if file:
        saved = next((one for one in list_exercises() if file in one.files), None)
        if saved is not None:
            exercise = saved
            click.echo()
            check_one(folder, exercise, say)
    elif key == "h":
        show_hint(folder, exercise, say)
    elif key == "s":
        show_task(folder, exercise, say)
    elif key == "l":
        click.echo(format_list(list_exercises(), read_state(folder).passed, say))
    elif key == "n":
        exercise = current(folder, exercise.number)
        show_task(folder, exercise, say)
    elif key == "r":
        check_one(folder, exercise, say)
    elif key == "x":
        reset_one(folder, exercise, say)
    else:
        click.echo(format_keys(say))
    return exercise
