"""The check of one exercise: a static look, then the learner's code in a process of its own, judged in this one.

The first thing that is wrong is the result. What the code prints, patches or ends changes nothing but itself.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import FileError, UsageError
from kvsim.i18n.language import explain, language_of
from kvsim.learn.answers import Answer, describe, open_questions, read_answers, tell, untouched
from kvsim.learn.exercise import Exercise, list_exercises
from kvsim.learn.looking import find_reference, is_stub, parse, read_text
from kvsim.learn.naming import fail, find_named
from kvsim.learn.subject import Subject
from kvsim.testing.subject.calls import Problem, UnreadableError
from kvsim.testing.subject.remote import CodeEndedError, Remote, start_process
from kvsim.testing.subject.serving import UNREADABLE
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.facts import UNKNOWN
from kvsim.testing.verdict.failure import Failure
from kvsim.testing.verdict.text import sentence, speak
from kvsim.testing.verifying import describe_end

PASSED, FAILED, NOT_STARTED, CANNOT_RUN, SKIPPED = "passed", "failed", "not_started", "cannot_run", "skipped"
DONE = (PASSED, SKIPPED)
SECONDS = 10.0  # of one check, unless its checker has SECONDS of its own
SERVING = "kvsim.learn.serving"


class Given(NamedTuple):
    """What a checker is given. `subject`: the learner's code."""

    exercise: Exercise
    seed: int
    subject: Subject

    def fail(self, problem: Problem, *ids: str, **more: Any) -> OracleError:
        """The error of a check that failed, to be raised: what is wrong, and the mistakes that explain it."""
        return fail(self.exercise, problem, *ids, **more)


@dataclass(frozen=True)
class Outcome:
    """The result of a check. `text`: what is wrong; `diagnosis`: ids of the mistakes that explain it; `predicted`: what
    predictions were worth; `printed`: the output of the code itself."""

    exercise: Exercise
    status: str
    text: str = ""
    diagnosis: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    printed: str = ""
    failure: Failure | None = None

    @property
    def done(self) -> bool:
        return self.status in DONE


class Connection(NamedTuple):
    """The process of the code: calls, why it ended, what it printed (asked for once it has ended)."""

    remote: Remote
    describe_end: Callable[[CodeEndedError], str]
    printed: Callable[[], str]


Connect = Callable[[Path, float], AbstractContextManager[Connection]]


@contextmanager
def run_apart(path: Path, seconds: float) -> Iterator[Connection]:
    """A process for the file at `path`, without input, which ends after `seconds`."""
    process = start_process(path, "", 0, seconds, SERVING)
    try:
        yield Connection(process.remote, lambda ended: describe_end(ended, process, path, seconds), process.out.text)
    finally:
        process.end()


def check(
    exercise: Exercise, folder: Path, seed: int, connect: Connect = run_apart, dtype: str = "float64"
) -> Outcome:  # fmt: skip
    """Check an exercise in the learner's folder, in the language of KVSIM_LANG. `dtype`: of the arrays that the code is
    given."""
    missing = getattr(exercise.checker, "missing", None)
    if missing is not None and (problem := missing()) is not None:
        return Outcome(exercise, SKIPPED, sentence(problem, speak()))
    try:
        predicted = _predict(exercise, folder, seed)
        if not exercise.entry:
            return check_answers(exercise, folder, seed)
        path = folder / f"{exercise.name}.py"
        found = _look(exercise, path) or _run(exercise, path, seed, connect, dtype)
        return replace(found, predicted=predicted)
    except (FileError, UsageError) as error:
        return Outcome(exercise, CANNOT_RUN, explain(error, speak()))


def check_all(folder: Path, seed: int, connect: Connect = run_apart) -> Iterator[Outcome]:
    """The result of every exercise, in their order."""
    for exercise in list_exercises():
        yield check(exercise, folder, seed, connect)


def check_answers(exercise: Exercise, folder: Path, seed: int) -> Outcome:
    """The result of an exercise that consists of answers. FileError: they cannot be read."""
    path, say = folder / f"{exercise.name}.toml", speak()
    if not path.is_file():
        return _not_there(exercise, path)
    given = read_answers(path)
    if isinstance(given, Problem):
        return Outcome(exercise, CANNOT_RUN, sentence(given, say))
    answers: dict[str, Answer] = exercise.checker.answers(seed)
    if untouched(given, answers):
        return Outcome(exercise, NOT_STARTED, say("no question is answered yet"))
    if names := open_questions(given, answers):
        return Outcome(exercise, FAILED, say("not answered yet: {names}").format(names=", ".join(names)))
    wrong = {name: one for name, one in answers.items() if not one.accepts(given[name])}
    if not wrong:
        return Outcome(exercise, PASSED)
    ids = list(dict.fromkeys(id for name, one in wrong.items() for id in one.names(given[name])[:1]))
    told = [describe(name, given[name], one) for name, one in wrong.items()]
    failed = _failed(exercise, fail(exercise, told[0], *ids, notes=tuple(told[1:])))
    lines = [line for name, one in wrong.items() for line in _tell_wrong(exercise, name, given[name], one)]
    return replace(failed, text="\n".join(lines))


def _tell_wrong(exercise: Exercise, name: str, given: Any, answer: Answer) -> list[str]:
    """A wrong answer, and below it the mistake that gives it."""
    say = speak()
    lines = [f"  {sentence(describe(name, given, answer), say)}"]
    for id in answer.names(given)[:1]:
        mistake = find_named(exercise, id)
        lines.append(f"    {say('diagnosis: ')}[{id}] {mistake.sentence(language_of(say))}")
    return lines


def _predict(exercise: Exercise, folder: Path, seed: int) -> tuple[str, ...]:
    """What the predictions of an exercise with code were worth; none are made in one without."""
    path, say = folder / f"{exercise.name}.toml", speak()
    if not (exercise.entry and exercise.has_answers and path.is_file()):
        return ()
    given = read_answers(path)
    if isinstance(given, Problem):
        return (sentence(given, say),)
    answers: dict[str, Answer] = exercise.checker.answers(seed)
    lines = []
    for name in [name for name in answers if name not in open_questions(given, answers)]:
        right, own = answers[name].accepts(given[name]), answers[name]
        lines.append(sentence(tell(name, given[name], own), say))
        if not right and own.names(given[name]):
            error = fail(exercise, describe(name, given[name], own), own.names(given[name])[0])
            lines += [line for line in str(error).splitlines() if "[" in line][-1:]
    return tuple(lines)


def _not_there(exercise: Exercise, path: Path) -> Outcome:
    say = speak()
    text = say("there is no file {file}: kvsim learn reset {id} writes it")
    return Outcome(exercise, NOT_STARTED, text.format(file=path.name, id=exercise.id))


def _look(exercise: Exercise, path: Path) -> Outcome | None:
    """The result where the code need not run. FileError: it cannot be read."""
    say = speak()
    if not path.is_file():
        return _not_there(exercise, path)
    tree = parse(read_text(path))
    if isinstance(tree, Problem):
        return Outcome(exercise, CANNOT_RUN, sentence(tree, say))
    if (line := find_reference(tree)) is not None:
        text = say("line {line} imports kvsim, which has the solution in it: here it is yours to write")
        return Outcome(exercise, FAILED, text.format(line=line))
    if is_stub(tree, exercise):
        return Outcome(exercise, NOT_STARTED, say("nothing is written yet"))
    return None


def _run(exercise: Exercise, path: Path, seed: int, connect: Connect, dtype: str) -> Outcome:
    """The result of the code."""
    with connect(path, getattr(exercise.checker, "SECONDS", SECONDS)) as connection:
        found = _judge(exercise, connection, seed, dtype)
    return replace(found, printed=connection.printed())


def _judge(exercise: Exercise, connection: Connection, seed: int, dtype: str) -> Outcome:
    say, subject = speak(), Subject(connection.remote, dtype)
    try:
        subject.begin()
        if absent := [name for name in exercise.entry if name not in subject.names]:
            text = say("the file defines no {names}").format(names=", ".join(absent))
            return Outcome(exercise, FAILED, text)
        with np.errstate(all="ignore"):  # the numbers of the code may be of any size
            exercise.checker.check(Given(exercise, seed, subject))
    except OracleError as error:
        return _failed(exercise, error)
    except UnreadableError as error:
        unwritten = error.problem.values.get("raised") is NotImplementedError
        return Outcome(exercise, NOT_STARTED if unwritten else FAILED, sentence(error.problem, say))
    except CodeEndedError as ended:
        if ended.ended == UNREADABLE:
            return Outcome(exercise, CANNOT_RUN, say("cannot be imported: {error}").format(error=ended.text))
        text = ended.text if ended.ended is not None else connection.describe_end(ended)
        return Outcome(exercise, CANNOT_RUN, text)
    return Outcome(exercise, PASSED)


def _failed(exercise: Exercise, error: OracleError) -> Outcome:
    status = NOT_STARTED if error.facts.get("unwritten") else FAILED
    ids = tuple(id for id in error.facts.get("diagnosis", ()) if id != UNKNOWN)
    return Outcome(exercise, status, str(error), ids, failure=error.failure)
