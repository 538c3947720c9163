"""`kvsim claims`: the claims of two texts on KV caching, compared with exact values."""

import click

from kvsim.cli.options import common, json_option
from kvsim.cli.screen import find_screen, show
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "claims",
        help=say(
            "Compare the claims of two texts on KV caching with exact numbers, as a page in Markdown: what each says,"
            " what is exact, and whether it is right, rounded or wrong."
        ),
        epilog=say("Examples:") + "\n\n\b\n  kvsim claims --lang zh\n  kvsim claims > claims.md",
    )
    @json_option(say, "claims")
    @common(say)
    def claims(as_json: bool) -> int:
        from kvsim.costs.claims import list_claims, to_dict

        found = list_claims()
        if as_json:
            from kvsim.schemas import dump

            click.echo(dump(to_dict(found)))
        else:
            from kvsim.views.terminal.claims import format_claims

            screen = find_screen()
            show(format_claims(found, say, screen), screen)
        return 0

    return claims
