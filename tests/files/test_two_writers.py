"""Two writers and a reader of one path, step by step: a state machine with failures at each step.

The writers are threads that stop before every call of the system (open, write, fchmod, fsync, replace, unlink), so that
the machine decides which of them goes on, and whether its call fails, is interrupted, or the process is killed there.
"""

import errno
import os
import queue
import stat
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvsim.errors import FileError
from kvsim.files import writing

CALLS = ("open", "fchmod", "fsync", "replace", "unlink")
GO, FAIL, INTERRUPT, KILL = "go", OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), "kill"


class KilledError(BaseException):
    """Ends a writer without any of its handlers doing anything more, as a signal would."""


class Stepped:
    """`os`, with calls that wait for the machine in the threads of writers."""

    def __init__(self) -> None:
        self.here = threading.local()

    def __getattr__(self, name):
        real = getattr(os, name)
        return self._stepped(name, real) if name in CALLS else real

    def _stepped(self, name, real):
        def call(*given, **named):
            writer = getattr(self.here, "writer", None)
            if writer is not None:
                writer.wait(name)
            return real(*given, **named)

        return call


class Writer:
    """One call of `write_with` in a thread; `step` lets it do its next call."""

    def __init__(self, os_, path, texts):
        self.os, self.path, self.texts = os_, path, texts
        self.asked, self.answers = queue.SimpleQueue(), queue.SimpleQueue()
        self.dead, self.renamed, self.ended = False, False, None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.before = self.asked.get(timeout=60)  # the call before which it waits; None: it has ended

    def _run(self):
        self.os.here.writer = self
        try:
            writing.write_with(self.path, self._write)
            self.ended = "written"
        except (FileError, KeyboardInterrupt, KilledError) as error:
            self.ended = type(error).__name__
        finally:
            self.asked.put(None)

    def _write(self, file):
        for text in self.texts:
            self.wait("write")
            file.write(text)
            file.flush()

    def wait(self, name):
        """Called in the thread: the machine says how the call goes."""
        if self.dead:
            raise KilledError
        self.asked.put(name)
        answer = self.answers.get(timeout=60)
        if answer == KILL:
            self.dead = True
            raise KilledError
        if answer != GO:
            raise answer

    def step(self, answer):
        self.answers.put(answer)
        self.before = self.asked.get(timeout=60)
        if self.before is None:
            self.thread.join()


class TwoWriters(RuleBasedStateMachine):
    """The file is always absent or one of the texts, whole; when nobody was killed, nothing else is left."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name, "file")
        self.writers = [None, None]
        self.holds, self.mode, self.count, self.killed = None, None, 0, 0
        self.os, writing.os = writing.os, Stepped()

    @initialize(mode=st.sampled_from([None, 0o600, 0o644]))
    def begin(self, mode):
        if mode is not None:
            self.holds, self.mode = b"old" * 9, mode
            self.path.write_bytes(self.holds)
            self.path.chmod(mode)

    @rule(which=st.sampled_from([0, 1]), answer=st.sampled_from([GO] * 12 + [FAIL, INTERRUPT, KILL]))
    def turn(self, which, answer):
        """A writer begins, or does its next call."""
        if self.writers[which] is None:
            self.count += 1
            texts = [b"%d" % self.count * n for n in (self.count, 20)]
            self.writers[which] = Writer(writing.os, self.path, texts)
            return
        writer, call = self.writers[which], self.writers[which].before
        if call == "unlink" and answer is not KILL:
            answer = GO  # what removes the temporary file is not tried twice
        writer.step(answer)
        if call == "replace" and answer == GO:
            self.holds, writer.renamed = b"".join(writer.texts), True
        if writer.before is None:
            assert writer.renamed == (writer.ended == "written") or writer.ended in ("KeyboardInterrupt", "KilledError")
            self.killed += writer.ended == "KilledError"
            self.writers[which] = None

    @invariant()
    def whole(self):
        assert (self.path.read_bytes() if self.path.exists() else None) == self.holds
        if self.mode is not None:
            assert stat.S_IMODE(self.path.stat().st_mode) == self.mode

    @invariant()
    def nothing_else_is_left(self):
        others = {name for name in os.listdir(self.folder.name) if name != "file"}
        assert all(name.startswith(".kvsim-") for name in others)
        if self.writers == [None, None]:
            assert len(others) <= self.killed

    def teardown(self):
        for writer in self.writers:
            while writer is not None and writer.before is not None:
                writer.step(GO)
        writing.os = self.os
        self.folder.cleanup()


TestTwoWriters = TwoWriters.TestCase
TestTwoWriters.settings = settings(max_examples=15, stateful_step_count=40)
