"""Child processes that run kvsim's own code.

A child finds the parent's kvsim by its place and nothing in the working directory: there, a file random.py or json.py
would be imported in place of the standard library's. Its stdin is one end of a pair of sockets.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from kvsim.processes.channel import Channel

_BOOT = (
    "import sys; from importlib import import_module, util; root = sys.argv.pop(1);"
    " spec = util.spec_from_file_location('kvsim', root + '/__init__.py', submodule_search_locations=[root]);"
    " sys.modules['kvsim'] = package = util.module_from_spec(spec); spec.loader.exec_module(package);"
    " import_module(sys.argv.pop(1)).main(sys.argv[1:])"
)


class Child(NamedTuple):
    """A running child, and the parent's end of the connection."""

    process: "subprocess.Popen[bytes]"
    channel: Channel
    owner: int  # the process that started it: after a fork, another one has a copy of this record


def start_child(
    module: str, *arguments: str, stdout: int | None = None, stderr: int | None = None,
    env: dict[str, str] | None = None,
) -> Child:  # fmt: skip
    """Start a child that calls `main(arguments)` of that module of kvsim, in a session of its own: Ctrl-C does not
    reach it. Options are those of subprocess.Popen. OSError: no process could be started."""
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-P", "-c", _BOOT, root, module, *arguments]
    try:
        process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=stdout, stderr=stderr, env=env, start_new_session=True
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, Channel(ours), os.getpid())


def end_child(child: Child) -> int | None:
    """Kill the child's process group and close the connection. Returns its exit code, which is that of its own end if
    that came first; None: it is another process's child."""
    child.channel.close()
    if child.owner != os.getpid():
        return None
    kill_group(child.process)
    return child.process.returncode


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all processes in its group, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.returncode is None and hasattr(os, "killpg"):  # once waited for, its number may be another's
            os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode is None:
            process.kill()
    process.wait()


def own_end() -> Channel:
    """The child's end of the connection, which was its stdin. From here on stdin is empty, for the code that the child
    runs; the descriptor is not inherited by its own children."""
    end = socket.socket(fileno=os.dup(0))
    os.set_inheritable(end.fileno(), False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(end)
