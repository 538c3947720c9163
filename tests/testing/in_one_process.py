"""`kvsim verify` without a process: the file is loaded and called by a thread."""

import socket
import sys
import threading
from pathlib import Path

from kvsim.processes.channel import Channel
from kvsim.testing.feeds.chunking import Texts
from kvsim.testing.subject.remote import Remote
from kvsim.testing.subject.serving import serve
from kvsim.testing.verifying import judge


def verify_here(path, name="it", seed=0):
    """As `verify`: the same functions on both ends of a connection."""
    ours, theirs = socket.socketpair()
    modules, places = set(sys.modules), sys.path[:]

    def run():
        try:
            serve(Channel(theirs), Path(path), name, seed)
        finally:
            theirs.shutdown(socket.SHUT_WR)  # as the end of a process does

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    about = {}
    try:
        return judge(Remote(Channel(ours)), Path(path), name, Texts(seed=seed), about)._replace(kind=about.get("kind"))
    finally:
        ours.close()
        thread.join(60.0)
        theirs.close()
        sys.path[:] = places
        for added in set(sys.modules) - modules:
            if (getattr(sys.modules[added], "__file__", None) or "").startswith(str(Path(path).parent)):
                del sys.modules[added]


def judge_answers(answers, path="mine.py"):
    """The result for a process that sends these frames, whatever it is asked, and closes the connection."""
    ours, theirs = socket.socketpair()
    for frame in answers:
        Channel(theirs).send(frame)
    theirs.shutdown(socket.SHUT_WR)
    try:
        return judge(Remote(Channel(ours)), Path(path), "it", Texts(), {})
    finally:
        ours.close()
        theirs.close()
