"""The check of an exercise without a process: the learner's file is loaded and called by a thread."""

import contextlib
import socket
import sys
import threading
from pathlib import Path

from kvsim.learn.checking import Connection, check
from kvsim.learn.exercise import list_exercises
from kvsim.learn.folder import write_files
from kvsim.learn.serving import serve
from kvsim.learn.solutions import fill_answers
from kvsim.processes.channel import Channel
from kvsim.testing.subject.remote import Remote

HERE = Path(__file__).parent
BY_ID = {one.id: one for one in list_exercises()}


@contextlib.contextmanager
def run_here(path, seconds=0.0):
    """As `kvsim.learn.checking.run_apart`: the same functions on both ends of a connection."""
    ours, theirs = socket.socketpair()
    modules, places = set(sys.modules), sys.path[:]

    def run():
        try:
            serve(Channel(theirs), Path(path))
        finally:
            theirs.shutdown(socket.SHUT_WR)  # as the end of a process does

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Connection(Remote(Channel(ours)), lambda ended: f"ended: {ended.args}", lambda: "")
    finally:
        ours.close()
        thread.join(60.0)
        theirs.close()
        sys.path[:] = places
        for added in set(sys.modules) - modules:
            if (getattr(sys.modules[added], "__file__", None) or "").startswith(str(Path(path).parent)):
                del sys.modules[added]


def files_of(kind, id):
    """The files of solutions or mistakes of an exercise."""
    return sorted(file for file in (HERE / kind / id).glob("*.*") if file.suffix in (".py", ".toml"))


def hand_in(exercise, file, folder, seed=0):
    """Put a file of `solutions` or `mistakes` into a learner's folder, under the name of the exercise."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".toml":
        text = fill_answers(exercise, text, seed)
    else:
        write_files(folder, exercise, [name for name in exercise.files if name.endswith(".toml")], seed)
    (folder / f"{exercise.name}{file.suffix}").write_text(text, encoding="utf-8")


def check_here(exercise, folder, seed=0, dtype="float64"):
    """The result of the check, without a process."""
    return check(exercise, folder, seed, run_here, dtype)
