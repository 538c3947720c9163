"""`kvsim claims`: what two texts on KV caching claim, and what is exact."""

import json

import click

from kvsim.cli.options import common
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "claims",
        help=say(
            "Hold the claims of two texts on KV caching against exact numbers, as a page in Markdown: what each says,"
            " what is exact, and whether it is right, rounded or wrong."
        ),
        epilog=say("Examples:") + "\n\n\b\n  kvsim claims --lang zh\n  kvsim claims > claims.md",
    )
    @click.option(
        "--json",
        "as_json",
        is_flag=True,
        help=say("Print one JSON object (its schema: kvsim schema {name}).").format(name="claims"),
    )
    @common(say)
    def claims(as_json: bool) -> int:
        from kvsim.costs.claims.claim import list_claims, to_dict

        found = list_claims()
        if as_json:
            click.echo(json.dumps(to_dict(found), ensure_ascii=False, allow_nan=False))
        else:
            from kvsim.views.terminal.claims import tell_claims

            click.echo(tell_claims(found, say))
        return 0

    return claims
