"""Public devices by name: memory, bandwidth and peaks, in a data file with their source (devices.json).

A name is lower case with hyphens: "a100-80gb". A figure that no second source confirmed is named in the entry's
`unconfirmed`. Usable memory is what the driver reports, where somebody printed it; else unknown.
"""

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.errors import UsageError, shortened

FILE = Path(__file__).resolve().parent / "devices.json"


class Device(NamedTuple):
    """One accelerator, or one processor with its memory."""

    name: str
    nominal_bytes: int  # as the vendor means it: "24 GB" is 24·10^9
    usable_bytes: int | None  # what the driver reports; None: not known
    bandwidth: int  # of its memory, bytes per second
    peaks: dict[str, int]  # FLOP/s (integer operations too) of dense products, by dtype; no sparsity
    source: str  # where the vendor says so
    unconfirmed: tuple[str, ...] = ()  # dtypes whose peak no second source gave
    note: str = ""

    def peak(self, dtype: str) -> int:
        """FLOP/s of dense products in `dtype`. UsageError: the device has no such products."""
        if dtype not in self.peaks:
            raise UsageError(
                "the device {device} has no peak for {dtype}: it has {known}",
                device=self.name,
                dtype=shortened(dtype),
                known=", ".join(self.peaks),
            )
        return self.peaks[dtype]


def _make_device(name: str, entry: dict[str, Any]) -> Device:
    # A vendor who writes GiB means it.
    nominal = entry["nominal_gb"] * 10**9 if "nominal_gb" in entry else entry["nominal_gib"] * 2**30
    return Device(
        name, nominal, entry["usable_bytes"], entry["bandwidth"], entry["peaks"], entry["source"],
        tuple(entry.get("unconfirmed", ())), entry.get("note", ""),
    )  # fmt: skip


@cache
def read_devices() -> dict[str, Device]:
    """All devices, by name."""
    entries = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: _make_device(name, entry) for name, entry in entries.items()}


def find_device(name: str) -> Device:
    """The device `name`: "RTX 4090" is "rtx-4090", and "h100" is "h100-80gb" while there is no other H100.

    UsageError: none, or more than one (near names are suggested).
    """
    devices = read_devices()
    asked = "-".join(str(name).lower().replace("_", " ").replace("-", " ").split())
    if asked in devices:
        return devices[asked]
    longer = [known for known in devices if asked and known.startswith(f"{asked}-")]
    if len(longer) == 1:
        return devices[longer[0]]
    near = longer or difflib.get_close_matches(asked, devices, n=3, cutoff=0.5)
    raise UsageError(
        "no device {name} in the catalogue: near names are {near}", name=shortened(name), near=", ".join(near) or "-"
    )
