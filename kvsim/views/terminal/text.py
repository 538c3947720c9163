"""Text cut and padded by its width on a terminal, where a Chinese character takes two cells; numbers as text."""

from rich.cells import cell_len, set_cell_size


def tail(text: str, width: int, ascii_only: bool = False) -> str:
    """The end of `text` in at most `width` cells; an ellipsis marks a cut."""
    if cell_len(text) <= width:
        return text
    mark = "..." if ascii_only else "…"
    room = width - len(mark)
    kept = ""
    for c in reversed(text):
        if cell_len(c + kept) > room:
            break
        kept = c + kept
    return mark + kept


def cut(text: str, width: int, ascii_only: bool = False) -> str:
    """The start of `text` in at most `width` cells; an ellipsis marks a cut."""
    mark = "..." if ascii_only else "…"
    return text if cell_len(text) <= width else set_cell_size(text, width - len(mark)) + mark


def pad(text: str, width: int) -> str:
    """`text` in exactly `width` cells, cut or padded on the right."""
    return set_cell_size(text, width)


def number(value: int) -> str:
    """An exact integer with thousands separators."""
    return f"{value:,}"


def percent_saved(before: int, after: int) -> str:
    """(before - after) / before in whole percent; with decimals where it would be rounded to 100% but `after` > 0."""
    if before == 0:
        return "0%"
    saved, decimals = 100 * (before - after) / before, 0
    while after > 0 and decimals < 9 and float(f"{saved:.{decimals}f}") >= 100:
        decimals += 1
    return f"{saved:.{decimals}f}%"


def significant(value: float) -> str:
    """A measured number with two significant digits; "0" for 0."""
    return f"{value:.1e}" if value else "0"


def byte_line(count: int) -> str:
    """The exact count of bytes, then GiB (2^30 bytes) and GB (10^9 bytes)."""
    return f"{count:,} B = {count / 2**30:.3g} GiB = {count / 10**9:.3g} GB"


def in_units(count: int, unit: int) -> str:
    """`count` / `unit`, rounded half up to three decimals (below 0.1: to three significant digits) in integer
    arithmetic, so that it is right for every size.

    >>> in_units(13_476_831_232, 2**30), in_units(13_476_831_232, 10**9), in_units(70_272, 10**9)
    ('12.551', '13.477', '0.0000703')
    """
    decimals = 3
    while count and decimals < 18 and count * 10**decimals < 100 * unit:
        decimals += 1
    scaled = (2 * count * 10**decimals + unit) // (2 * unit)
    left, right = divmod(scaled, 10**decimals)
    return f"{left:,}.{right:0{decimals}d}"
