"""What a child prints, read as it comes: an unread pipe would block the child."""

import threading
from typing import IO

OUTPUT_LIMIT = 100_000  # bytes kept of a stream; the rest is read and discarded


class Output:
    """The first OUTPUT_LIMIT bytes of a stream, which a thread reads to its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept, self._stream = bytearray(), stream
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while chunk := self._stream.read1(65536):  # type: ignore[attr-defined]
            self._kept += chunk[: OUTPUT_LIMIT - len(self._kept)]
        self._stream.close()

    def text(self, seconds: float = 1.0) -> str:
        """What was kept, with "\\ufffd" for bytes that are not UTF-8; waits up to `seconds` for the end of the
        stream, which a process that survives may keep open."""
        self._reader.join(seconds)
        return bytes(self._kept).decode("utf-8", "replace")
