"""`kvsim trace --perfetto FILE --clock CLOCK`: the run as a timeline, in a file."""

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from kvsim.cli.options import Decorated, OutputFile, combine, complete_file, known
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import Say

if TYPE_CHECKING:
    from kvsim.benchmark.timing import Stopwatch
    from kvsim.comparisons.trace_record import Trace
    from kvsim.costs.public.devices import Device
    from kvsim.costs.work.slices import Slice
    from kvsim.model import Model
    from kvsim.views.json.perfetto import Timeline

MEASURED, MODELLED = "measured", "model:"
MOST_SLICES = 200_000  # some 60 MB of JSON: what browsers open at once


class Recording:
    """A timeline to be written when a trace has run."""

    def __init__(self, path: Path, device: "Device | None", dtype: str) -> None:
        self.path, self.device, self.dtype = path, device, dtype
        self.model: Model | None = None
        self._stopwatch: Stopwatch | None = None

    def load(self, name: str, backend: str | None, device: str | None) -> "Model":
        """The model to trace: a measured copy if the clock is of this run. Errors: as `kvsim.load`."""
        from kvsim.loading.loader import load

        self.model = load(name, backend=backend, device=device, dtype=self.dtype)
        if self.device is None:
            from kvsim.benchmark.timing import measure

            self.model, self._stopwatch = measure(self.model)
        return self.model

    def check_steps(self, steps: int) -> None:
        """UsageError: this many steps give more slices than a file may hold. Raised after the first step."""
        assert self.model is not None
        self._check_size(2 * steps * (2 + 8 * self.model.config.n_layers))

    def write(self, trace: "Trace") -> None:
        """Write the file. UsageError: too many slices. FileError: it cannot be written."""
        from kvsim.files.writing import write_with
        from kvsim.views.json.perfetto import to_lines

        timeline = self._make(trace)
        self._check_size(timeline.size)
        lines = to_lines(trace, timeline)
        packed = self.path.suffix.lower() == ".gz"
        write_with(self.path, lambda file: _write_packed(file, lines) if packed else _write(file, lines))

    def _check_size(self, slices: int) -> None:
        if slices > MOST_SLICES:
            raise UsageError(
                "the timeline would have {count} slices, more than {most}: use a smaller -n or a shorter text, or"
                " --feed prefill",
                count=f"{slices:,}",
                most=f"{MOST_SLICES:,}",
            )

    def _make(self, trace: "Trace") -> "Timeline":
        from kvsim.costs.work.roofline import Limits
        from kvsim.costs.work.slices import count_key_heads, make_slices, run_on_device
        from kvsim.views.json.perfetto import Timeline

        assert self.model is not None
        heads = count_key_heads(self.model.config)

        def cut(sides: Iterable[Any]) -> "list[tuple[Slice, ...]]":
            return [make_slices(side.events, trace.item_bytes, heads) for side in sides]

        no_cache = cut(step.no_cache for step in trace.steps)
        cached = cut(step.cached for step in trace.steps)
        if self._stopwatch is not None:
            from kvsim.benchmark.limits import describe_machine
            from kvsim.benchmark.timing import place

            passes = self._stopwatch.passes
            facts: dict[str, Any] = {
                "time": "measured in this run, once; between a run's own steps its clock stands still",
                "machine": describe_machine(),
            }
            return Timeline(MEASURED, facts, place(passes[::2], no_cache), place(passes[1::2], cached))
        assert self.device is not None
        limits = Limits(self.device.peak(self.dtype), self.device.bandwidth)
        facts = {
            "time": "a lower bound: max(FLOPs / peak, bytes / bandwidth) of each slice, rounded up to nanoseconds",
            "device": self.device.name,
            "peak": limits.peak,
            "bandwidth": limits.bandwidth,
        }
        clock = f"{MODELLED}{self.device.name}"
        return Timeline(clock, facts, run_on_device(no_cache, limits), run_on_device(cached, limits))


def _write(file: BinaryIO, lines: Iterable[str]) -> None:
    for line in lines:
        file.write(line.encode("utf-8", "backslashreplace"))  # half a surrogate pair, as JSON escapes it


def _write_packed(file: BinaryIO, lines: Iterable[str]) -> None:
    """The same bytes for the same lines: no name and no time in the header."""
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        _write(packed, lines)  # type: ignore[arg-type]


def plan_recording(path: Path | None, clock: str | None, dtype: str) -> Recording | None:
    """What --perfetto and --clock ask for; None without them.

    UsageError: --clock alone, an unknown clock or device, a device without a peak for `dtype`. FileError: the file
    cannot be written.
    """
    if path is None:
        if clock is not None:
            raise UsageError("--clock goes with --perfetto")
        return None
    from kvsim.files.writing import check_writable

    device = _find_device(MEASURED if clock is None else clock)
    if device is not None:
        device.peak(dtype)
    check_writable(path)
    return Recording(path, device, dtype)


def _find_device(clock: str) -> "Device | None":
    """The device of a clock "model:DEVICE"; None for "measured". UsageError: another clock, an unknown device."""
    from kvsim.costs.public.devices import find_device

    if clock == MEASURED:
        return None
    if not clock.startswith(MODELLED):
        raise UsageError(
            "--clock takes measured, or model:DEVICE such as model:a10, got {value}", value=shortened(clock)
        )
    return find_device(clock.removeprefix(MODELLED))


def perfetto_options(say: Say) -> Callable[[Decorated], Decorated]:
    """--perfetto and --clock."""
    return combine(
        click.option(
            "--perfetto", type=OutputFile(), metavar="FILE[.gz]", shell_complete=complete_file,
            help=say("Write both runs to a file as a timeline, which Perfetto (ui.perfetto.dev) opens."),
        ),
        click.option(
            "--clock", metavar="measured|model:DEVICE", shell_complete=known(MEASURED, MODELLED),
            help=say("The timeline's times: measured in this run (the default), or the roofline of a device."),
        ),
    )  # fmt: skip
