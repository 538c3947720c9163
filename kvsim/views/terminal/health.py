"""What `kvsim doctor` prints."""

from kvsim.doctor.against_numpy import ALLOWED, Comparison
from kvsim.doctor.health import Check, Health
from kvsim.errors import KvsimError
from kvsim.i18n.language import Say, explain
from kvsim.i18n.printable import printable
from kvsim.i18n.wrapping import wrap
from kvsim.views.terminal.screen import ANYWHERE, Screen

_NAMES = 19  # cells of a name and the blanks before it


def _check(check: Check, say: Say) -> str:
    """Whether something works, and the detail."""
    detail = explain(check.detail, say) if isinstance(check.detail, KvsimError) else printable(check.detail)
    if check.missing:
        return say("not available: {detail}").format(detail=detail)
    return (say("works: {detail}") if check.works else say("BROKEN: {detail}")).format(detail=detail)


def _lay_out(lines: list[str], screen: Screen) -> str:
    """The lines in the width of `screen`, later ones of a fact below its beginning."""
    return "\n".join(part for line in lines for part in wrap(line, screen.width, _NAMES))


def health_lines(health: Health, say: Say) -> list[str]:
    """One section for each subject."""
    lines = [say("versions")]
    for package, found in health.versions.items():
        lines.append(f"  {package:<17}{found or say('not installed')}")
    lines += [f"  {health.platform}", say("backends")]
    for name, check in health.backends.items():
        lines.append(f"  {name:<17}{_check(check, say)}")
    usable, in_machine = health.processors
    lines += [say("BLAS and threads"), f"  {health.blas}"]
    lines.append("  " + say("processors: {usable} of {all} usable").format(usable=usable, all=in_machine))
    lines.append("  " + say("threads of elementwise work: {count}").format(count=health.workers))
    lines += [printable(f"  {name}={value}") for name, value in health.threads.items()]
    lines += _attention(health, say)
    lines += _terminal(health, say)
    lines += [say("demo model"), f"  {_check(health.demo, say)}"]
    return lines


def format_health(health: Health, say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim doctor`."""
    return _lay_out(health_lines(health, say), screen)


def _attention(health: Health, say: Say) -> list[str]:
    lines = [say("attention")]
    for name, rows in health.attention.items():
        text = say("full squares") if rows is None else say("{rows} queries at a time, each block up to its diagonal")
        default = say(" (the default of load)") if name == "square" else ""
        lines.append(f"  {name:<17}{text.format(rows=rows)}{default}")
    return lines


def _terminal(health: Health, say: Say) -> list[str]:
    """Facts, and three lines that show whether the terminal draws wide characters two cells and lines one cell wide."""
    terminal = health.terminal
    kind = say("a terminal") if terminal["tty"] else say("not a terminal")
    columns = say("{columns} columns").format(**terminal) if terminal["columns"] else say("width unknown")
    encoding = say("encoding {encoding}, written as utf-8").format(**terminal)
    return [
        say("terminal"),
        "  " + say("; ").join([kind, columns, encoding]),
        "  " + say("these three lines must end in the same column; if they do not, use --ascii"),
        "  |中华人民|",
        "  |××××────|",
        "  |abcdefgh|",
    ]


def format_comparison(compared: Comparison, screen: Screen = ANYWHERE) -> str:
    """One line of the GPU report; disagreement in capitals."""
    allowed = ALLOWED[compared.dtype]
    cells = (
        f"  {compared.model:<24}{compared.dtype:<9}",
        f"{compared.difference:.1e} {'<=' if compared.difference <= allowed else 'ABOVE'}",
        f"{allowed:.0e}",
        "ids" if compared.same_ids else "IDS DIFFER",
        "ledger" if compared.same_ledger else "LEDGER DIFFERS",
    )
    return _lay_out([" ".join(cells)], screen)


def format_facts(facts: dict[str, str], screen: Screen = ANYWHERE) -> str:
    """The heading of the GPU report: versions, the device, its libraries, one a line."""
    return _lay_out([printable(f"  {name:<17}{value}") for name, value in facts.items()], screen)
