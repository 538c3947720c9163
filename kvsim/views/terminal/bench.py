"""What `kvsim bench` prints: a heading, one row a context as soon as it is measured, and sums."""

import statistics

from rich.cells import cell_len

from kvsim.benchmark.record import Benchmark, Point, all_timed, totals
from kvsim.i18n.language import Say

WIDTHS = (8, 16, 18, 9, 9, 7, 18)  # terminal cells of the columns


def _milliseconds(times: list[float]) -> str:
    """The median in ms ± half the interquartile range; "-" for no times."""
    if not times:
        return "-"
    if len(times) < 2:
        return f"{1e3 * times[0]:.2f}"
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{1e3 * middle:.2f} ±{1e3 * (high - low) / 2:.2f}"


def _row(cells: list[str | None]) -> str:
    """Cells aligned to the right of their columns, by width on the terminal; None: the column is left out."""
    pairs = zip(cells, WIDTHS, strict=True)
    return "".join(" " * max(1, width - cell_len(cell)) + cell for cell, width in pairs if cell is not None)


def format_heading(bench: Benchmark, say: Say) -> str:
    """The model, the machine's limits, the prefill, and the names of the columns."""
    prefill = bench.prefill
    speed = prefill.useful_flops / statistics.median(prefill.seconds)
    lines = [
        say("model {model}, {parameters} parameters, {dtype} on {backend}, {machine}").format(
            model=bench.model, parameters=f"{bench.parameters:,}", dtype=bench.dtype, backend=bench.backend,
            machine=bench.machine,
        ),
        say("measured on this machine: reads {read} GB/s, multiplies {multiply} GFLOP/s").format(
            read=f"{bench.read_bytes_per_second / 1e9:.1f}", multiply=f"{bench.flops_per_second / 1e9:.0f}"
        ),
        say("prefill of {tokens} tokens: {time} ms, {share}% of these GFLOP/s").format(
            tokens=prefill.tokens,
            time=_milliseconds(prefill.seconds),
            share=f"{100 * speed / bench.flops_per_second:.0f}",
        ),
        say("ms per token (median ± half the interquartile range); read: share of these GB/s"),
        _row([say("context"), say("cached"), say("no cache"), say("faster"), say("FLOPs"), say("read"), bench.peer]),
    ]  # fmt: skip
    return "\n".join(lines)


def format_point(point: Point, bench: Benchmark) -> str:
    """The row of one context."""
    cached = point.median("cached")
    faster = f"{point.median('uncached') / cached:.1f}x" if point.uncached else "-"
    flops = f"{point.uncached_flops / point.cached_flops:.0f}x" if point.uncached else "-"
    read = f"{100 * point.read_bytes / cached / bench.read_bytes_per_second:.0f}%"
    peer = _milliseconds(point.peer) if bench.peer else None
    uncached = _milliseconds(point.uncached)
    return _row([str(point.context), _milliseconds(point.cached), uncached, faster, flops, read, peer])


def format_sums(bench: Benchmark, say: Say) -> str:
    """Seconds of all steps by each way, why time and FLOPs differ, and the peak memory."""
    first, last = bench.first, bench.reached
    tokens = last - first + 1
    cached = totals(bench.points, "cached", first, last)
    text = say("{tokens} tokens, interpolated between these contexts: {seconds} s with a cache, {speed} tokens/s")
    if all_timed(bench.points, first, last):
        text = say("{tokens} tokens, every step timed: {seconds} s with a cache, {speed} tokens/s")
    lines = [text.format(tokens=tokens, seconds=f"{cached:.2f}", speed=f"{tokens / cached:.1f}")]
    if "uncached" in bench.ways:
        uncached = totals(bench.points, "uncached", first, last)
        lines.append(
            say("without a cache {seconds} s, {faster} times as long. FLOPs fall by a larger factor than time: a step"
                " of one token is limited by reading the weights, a step of many by its products.").format(
                seconds=f"{uncached:.2f}", faster=f"{uncached / cached:.1f}"
            )
        )  # fmt: skip
    if bench.peer:
        peer = totals(bench.points, "peer", first, last)
        lines.append(
            say("{peer}, same weights, logits checked: {seconds} s, {ratio} times kvsim's time").format(
                peer=bench.peer, seconds=f"{peer:.2f}", ratio=f"{peer / cached:.2f}"
            )
        )
    if bench.peak_memory is not None:
        text = say("peak memory of the process {bytes} B, including the matrices of both measurements (up to 512 MiB)")
        lines.append(text.format(bytes=f"{bench.peak_memory:,}"))
    if bench.partial:
        lines.append(say("partial: interrupted"))
    return "\n".join(lines)
