"""`kvsim schema NAME`: the JSON schema of what `--json` prints."""

from pathlib import Path

import click

from kvsim.cli.options import common, known, one_of
from kvsim.i18n.language import Say

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
NAMES = (
    "caches",
    "chat",
    "claims",
    "compare",
    "cost",
    "explain",
    "memory",
    "plan",
    "tolerance",
    "trace",
    "vectors",
    "verify",
)
SCHEMAS = {name: f"{name}-1.json" for name in NAMES}


def command(say: Say) -> click.Command:
    @click.command(
        "schema",
        help=say("Print the JSON schema of a command's --json output. NAME: {names}.").format(names=", ".join(SCHEMAS)),
        epilog=say("Examples:") + "\n\n\b\n  kvsim schema trace\n  kvsim schema trace > trace.schema.json",
    )
    @click.argument("name", shell_complete=known(*SCHEMAS))
    @common(say)
    def schema(name: str) -> int:
        file = FOLDER / SCHEMAS[one_of("NAME", name, tuple(SCHEMAS))]
        click.echo(file.read_text(encoding="utf-8"), nl=False)
        return 0

    return schema
