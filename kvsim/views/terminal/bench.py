"""What `kvsim bench` prints: a heading, one row a context as soon as it is measured, and sums."""

import statistics

from rich.cells import cell_len

from kvsim.benchmark.record import Benchmark, Point, all_timed, totals
from kvsim.i18n.language import Say
from kvsim.i18n.wrapping import wrap
from kvsim.views.terminal.columns import LEAST_FIRST
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet

# Terminal cells of the columns: a row is printed before the next one is known.
WIDTHS = {"context": 8, "cached": 16, "no_cache": 18, "faster": 9, "flops": 9, "read": 7, "peer": 18}


def _milliseconds(times: list[float]) -> str:
    """The median in ms ± half the interquartile range; "-" for no times."""
    if not times:
        return "-"
    if len(times) < 2:
        return f"{1e3 * times[0]:.2f}"
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{1e3 * middle:.2f} ±{1e3 * (high - low) / 2:.2f}"


def choose_columns(bench: Benchmark, screen: Screen) -> list[str]:
    """The columns that are shown: the peer's only if there is one, and on a narrow terminal as many as fit."""
    shown = [key for key in WIDTHS if key != "peer" or bench.peer]
    for key in LEAST_FIRST["bench"]:
        if screen.width is not None and sum(WIDTHS[k] for k in shown) > screen.width:
            shown.remove(key)
    return shown


def _row(cells: dict[str, str], bench: Benchmark, screen: Screen) -> str:
    """Cells aligned to the right of their columns, by width on the terminal."""
    chosen = choose_columns(bench, screen)
    line = "".join(" " * max(1, WIDTHS[key] - cell_len(cells[key])) + cells[key] for key in chosen)
    return "\n".join(wrap(line, screen.width))


def name_columns(bench: Benchmark, say: Say) -> dict[str, str]:
    """The headings of the columns."""
    return {
        "context": say("context"), "cached": say("cached"), "no_cache": say("no cache"), "faster": say("faster"),
        "flops": say("FLOPs"), "read": say("read"), "peer": str(bench.peer),
    }  # fmt: skip


def say_heading(bench: Benchmark, say: Say) -> list[str]:
    """The model, the machine's limits, the prefill, and what the table's numbers are."""
    prefill = bench.prefill
    speed = prefill.useful_flops / statistics.median(prefill.seconds)
    return [
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
    ]  # fmt: skip


def format_heading(bench: Benchmark, say: Say, screen: Screen = ANYWHERE) -> str:
    """The lines above the table, and the names of the columns."""
    wrapped = [part for line in say_heading(bench, say) for part in wrap(line, screen.width)]
    return "\n".join([*wrapped, _row(name_columns(bench, say), bench, screen)])


def show_point(point: Point, bench: Benchmark) -> dict[str, str]:
    """What is shown of one context, by column."""
    cached = point.median("cached")
    return {
        "context": str(point.context),
        "cached": _milliseconds(point.cached),
        "no_cache": _milliseconds(point.uncached),
        "faster": f"{point.median('uncached') / cached:.1f}x" if point.uncached else "-",
        "flops": f"{point.uncached_flops / point.cached_flops:.0f}x" if point.uncached else "-",
        "read": f"{100 * point.read_bytes / cached / bench.read_bytes_per_second:.0f}%",
        "peer": _milliseconds(point.peer),
    }


def format_point(point: Point, bench: Benchmark, screen: Screen = ANYWHERE) -> str:
    """The row of one context."""
    return _row(show_point(point, bench), bench, screen)


def bench_parts(bench: Benchmark, say: Say) -> list[Part]:
    """A whole benchmark: heading, a table of the contexts, sums."""
    names = name_columns(bench, say)
    shown = choose_columns(bench, ANYWHERE)
    rows = [[cells[key] for key in shown] for cells in (show_point(point, bench) for point in bench.points)]
    table = Sheet("bench", [Column(key, names[key]) for key in shown], rows)
    return [*say_heading(bench, say), table, *(say_sums(bench, say) if bench.points else [])]


def format_sums(bench: Benchmark, say: Say, screen: Screen = ANYWHERE) -> str:
    """Seconds of all steps by each way, why time and FLOPs differ, the peak memory, and columns that are left out."""
    shown = choose_columns(bench, screen)
    left_out = [name for key, name in name_columns(bench, say).items() if key not in (*shown, "peer")]
    lines = []
    if left_out:
        text = say("Left out at this width: {columns}. A wider terminal shows them; --json holds everything.")
        lines.append(text.format(columns=say(", ").join(left_out)))
    return "\n".join(part for line in [*lines, *say_sums(bench, say)] for part in wrap(line, screen.width))


def say_sums(bench: Benchmark, say: Say) -> list[str]:
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
    return lines
