"""A command run in a process apart: without input, for a limited time, its output kept to a limit."""

import contextlib
import os
import signal
import subprocess
import threading
from typing import Any, NamedTuple

KEPT = 100_000  # bytes of what a process prints; the rest is read and thrown away


class Ended(NamedTuple):
    """How it ended: its exit code (None: it was still running) and what it printed."""

    code: int | None
    out: str
    err: str


def run_apart(command: list[str], seconds: float) -> Ended:
    """Run it; when it is over, or the time is, whatever it has started is ended too."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    kept: list[bytearray] = [bytearray(), bytearray()]
    readers = [
        threading.Thread(target=read_all, args=(stream, into), daemon=True)
        for stream, into in zip((process.stdout, process.stderr), kept, strict=True)
    ]
    for reader in readers:
        reader.start()
    code = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(seconds)
    finally:
        end_group(process)
    for reader in readers:
        reader.join(1.0)
    out, err = (bytes(part).decode("utf-8", "replace") for part in kept)
    return Ended(code, out, err)


def read_all(stream: Any, into: bytearray) -> None:
    """Read to the end, and keep the beginning."""
    while chunk := stream.read1(65536):
        into += chunk[: KEPT - len(into)]
    stream.close()


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """The process and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
