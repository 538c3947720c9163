"""`kvsim schema NAME`: the JSON schema of what `--json` prints."""

import click

from kvsim.cli.options import common, known, one_of
from kvsim.i18n.language import Say
from kvsim.schemas import VERSIONS, read_schema


def command(say: Say) -> click.Command:
    @click.command(
        "schema",
        help=say("Print the JSON schema of a command's --json output. NAME: {names}.").format(
            names=", ".join(VERSIONS)
        ),
        epilog=say("Examples:") + "\n\n\b\n  kvsim schema trace\n  kvsim schema trace > trace.schema.json",
    )
    @click.argument("name", shell_complete=known(*VERSIONS))
    @common(say)
    def schema(name: str) -> int:
        click.echo(read_schema(one_of("NAME", name, tuple(VERSIONS))), nl=False)
        return 0

    return schema
