"""What `kvsim doctor` found, told."""

from kvsim.doctor.against_numpy import ALLOWED, Comparison
from kvsim.doctor.health import Health, Try
from kvsim.errors import KvsimError
from kvsim.i18n.language import Say, explain
from kvsim.i18n.printable import printable


def _told(tried: Try, say: Say) -> str:
    detail = explain(tried.detail, say) if isinstance(tried.detail, KvsimError) else printable(tried.detail)
    if tried.missing:
        return say("not here: {detail}").format(detail=detail)
    return (say("works: {detail}") if tried.works else say("BROKEN: {detail}")).format(detail=detail)


def tell_health(health: Health, say: Say) -> str:
    """One section a subject; the last two lines are for the eye: do they end under one another?"""
    lines = [say("versions")]
    for package, found in health.versions.items():
        lines.append(f"  {package:<17}{found or say('not installed')}")
    lines += [f"  {health.platform}", say("backends")]
    for name, tried in health.backends.items():
        lines.append(f"  {name:<17}{_told(tried, say)}")
    usable, all_ = health.processors
    lines += [say("BLAS and threads"), f"  {health.blas}"]
    lines.append("  " + say("processors: {usable} of {all} usable").format(usable=usable, all=all_))
    lines.append("  " + say("threads of elementwise work: {count}").format(count=health.workers))
    lines += [printable(f"  {name}={value}") for name, value in health.threads.items()]
    lines.append(say("attention"))
    for name, rows in health.attention.items():
        told = say("full squares") if rows is None else say("{rows} queries at a time, each block up to its diagonal")
        default = say(" (the default of load)") if name == "square" else ""
        lines.append(f"  {name:<17}{told.format(rows=rows)}{default}")
    terminal = health.terminal
    lines.append(say("terminal"))
    kind = say("a terminal") if terminal["tty"] else say("not a terminal")
    columns = say("{columns} columns").format(**terminal) if terminal["columns"] else say("width unknown")
    lines.append(f"  {kind}; {columns}; " + say("encoding {encoding}, written as utf-8").format(**terminal))
    lines.append("  " + say("these three lines must end at one column; if they do not, use --ascii"))
    lines += ["  |中华人民|", "  |××××────|", "  |abcdefgh|"]
    lines += [say("demo model"), f"  {_told(health.demo, say)}"]
    return "\n".join(lines)


def tell_comparison(compared: Comparison) -> str:
    """One line of the report: where it disagrees, in capitals."""
    cells = (
        f"  {compared.model:<24}{compared.dtype:<9}",
        f"{compared.difference:.1e} {'<=' if compared.difference <= ALLOWED[compared.dtype] else 'ABOVE'}",
        f"{ALLOWED[compared.dtype]:.0e}",
        "ids" if compared.same_ids else "IDS DIFFER",
        "ledger" if compared.same_ledger else "LEDGER DIFFERS",
    )
    return " ".join(cells)


def tell_heading(facts: dict[str, str]) -> str:
    """What a report is about: versions, the device, its libraries."""
    return "\n".join(printable(f"  {name:<17}{value}") for name, value in facts.items())
