"""What a notebook shows of a result: its table.

Records stand on low floors and may not import views, which stand above them. They share this method instead, which asks
the package itself: `kvsim._display`, like every name of `kvsim`, is imported when it is first used, so that a record
needs no view until one is shown, and names none. Only `kvsim/__init__.py`, which stands outside the floors, knows where
it is, and only `kvsim/views/notebook.py` knows which view tells which record.
"""

from collections.abc import Collection
from typing import Any


def mimebundle(
    self: Any, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """IPython's protocol: the result as "text/plain", the terminal's table, and as "text/html"; of these only those of
    `include`, and none of `exclude`. A class assigns it to `_repr_mimebundle_`."""
    import kvsim

    bundle = kvsim._display(self)
    return {kind: text for kind, text in bundle.items() if kind in (include or bundle) and kind not in (exclude or ())}
