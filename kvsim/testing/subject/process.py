"""A command run in a child process: no input, a time limit, a limit on the output that is kept."""

import contextlib
import os
import signal
import subprocess
import threading
from typing import Any, NamedTuple

OUTPUT_LIMIT = 100_000  # bytes kept of stdout and of stderr; the rest is read and discarded


class ProcessResult(NamedTuple):
    """The exit code (None: the process ran into the time limit) and the output, at most OUTPUT_LIMIT bytes each."""

    code: int | None
    out: str
    err: str


def run_process(command: list[str], seconds: float) -> ProcessResult:
    """Run `command` for at most `seconds`, then kill its process group, so that no child of it survives either."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    kept: list[bytearray] = [bytearray(), bytearray()]
    readers = [
        threading.Thread(target=read_stream, args=(stream, into), daemon=True)
        for stream, into in zip((process.stdout, process.stderr), kept, strict=True)
    ]
    for reader in readers:
        reader.start()
    code = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(seconds)
    finally:
        kill_group(process)
    for reader in readers:
        reader.join(1.0)
    out, err = (bytes(part).decode("utf-8", "replace") for part in kept)
    return ProcessResult(code, out, err)


def read_stream(stream: Any, into: bytearray) -> None:
    """Read `stream` to its end, appending to `into` up to OUTPUT_LIMIT bytes. An unread pipe would block the child."""
    while chunk := stream.read1(65536):
        into += chunk[: OUTPUT_LIMIT - len(into)]
    stream.close()


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all processes in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
