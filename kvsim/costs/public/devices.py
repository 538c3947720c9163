"""A catalogue of devices: memory, bandwidth and peaks, in a data file with their source (devices.json).

A name is lower case with hyphens: "a100-80gb". `unconfirmed` lists the peaks of an entry that no second source
confirms. Usable memory is what the driver reports, where a source prints that; else unknown.
"""

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kvsim.checks import check_text, is_name
from kvsim.errors import UsageError, shortened

FILE = Path(__file__).resolve().parent / "devices.json"


class Device(NamedTuple):
    """One accelerator, or one processor with its memory. Bytes, bytes per second, operations per second."""

    name: str
    nominal_bytes: int  # as the vendor states it: "24 GB" is 24·10^9
    usable_bytes: int | None  # what the driver reports; None: unknown
    bandwidth: int  # of the memory, bytes per second
    peaks: dict[str, int]  # FLOP/s (integer operations too) of dense products, by dtype; no sparsity
    source: str  # the vendor's data sheet
    unconfirmed: tuple[str, ...] = ()  # dtypes whose peak no second source confirms
    note: str = ""

    def peak(self, dtype: str) -> int:
        """FLOP/s of dense products in `dtype`. UsageError: no peak for this dtype."""
        if not is_name(dtype, self.peaks):
            raise UsageError(
                "the device {device} has no peak for {dtype}: it has {known}",
                device=self.name,
                dtype=shortened(dtype),
                known=", ".join(self.peaks),
            )
        return self.peaks[dtype]


def _make_device(name: str, entry: dict[str, Any]) -> Device:
    # Vendors use GB for 10^9 bytes and GiB for 2^30.
    nominal = entry["nominal_gb"] * 10**9 if "nominal_gb" in entry else entry["nominal_gib"] * 2**30
    return Device(
        name, nominal, entry["usable_bytes"], entry["bandwidth"], entry["peaks"], entry["source"],
        tuple(entry.get("unconfirmed", ())), entry.get("note", ""),
    )  # fmt: skip


@cache
def read_devices() -> dict[str, Device]:
    """All devices: {name: Device}."""
    entries = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: _make_device(name, entry) for name, entry in entries.items()}


def find_device(name: str) -> Device:
    """The device `name`: "RTX 4090" is "rtx-4090", and "h100" is "h100-80gb" if there is no other H100.

    UsageError: no such device, or several (the message suggests near names).
    """
    devices = read_devices()
    wanted = "-".join(check_text("device", name).lower().replace("_", " ").replace("-", " ").split())
    if wanted in devices:
        return devices[wanted]
    longer = [known for known in devices if wanted and known.startswith(f"{wanted}-")]
    if len(longer) == 1:
        return devices[longer[0]]
    near = longer or difflib.get_close_matches(wanted, devices, n=3, cutoff=0.5)
    if not near:
        raise UsageError(
            "no device {name} in the catalogue: use one of {known}", name=shortened(name), known=", ".join(devices)
        )
    raise UsageError(
        "no device {name} in the catalogue: near names are {near}", name=shortened(name), near=", ".join(near)
    )
