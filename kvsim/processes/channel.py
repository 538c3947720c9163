"""Frames of bytes between two processes, over a pair of sockets."""

import socket
import time

_LENGTH = 8  # bytes in front of every frame: its length, little-endian


class FrameError(Exception):
    """A frame longer than is allowed, or cut off by the end of the connection."""


class Channel:
    """One end of a connection. `until`: the time.monotonic() at which waiting ends with TimeoutError."""

    def __init__(self, end: socket.socket, until: float | None = None) -> None:
        self._end, self.until = end, until

    def send(self, data: bytes) -> None:
        """Send one frame. OSError: the other end is closed."""
        self._wait()
        self._end.sendall(len(data).to_bytes(_LENGTH, "little"))
        self._end.sendall(data)  # not joined to its length: that would copy it

    def receive(self, limit: int) -> bytes:
        """The next frame. EOFError: the other end is closed. FrameError: it is longer than `limit` bytes, which is
        known before any of them is read, or ends too soon."""
        head = self._read(_LENGTH)
        if not head:
            raise EOFError
        length = int.from_bytes(head, "little")
        if length > limit:
            raise FrameError
        data = self._read(length)
        if len(head) < _LENGTH or len(data) < length:
            raise FrameError
        return bytes(data)

    def close(self) -> None:
        self._end.close()

    def _read(self, length: int) -> bytearray:
        """`length` bytes; fewer at the end of the connection."""
        found = bytearray()
        while len(found) < length:
            self._wait()
            try:
                part = self._end.recv(min(length - len(found), 2**20))
            except ConnectionError:
                break
            if not part:
                break
            found += part
        return found

    def _wait(self) -> None:
        """Let the next operation wait until `self.until`."""
        left = None if self.until is None else self.until - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._end.settimeout(left)
