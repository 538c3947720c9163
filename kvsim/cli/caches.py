"""`kvsim caches`: the cache policies that there are."""

import json
import sys

import click

from kvsim.cli.options import common, complete_config, complete_dtype, shown, use_color
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "caches",
        help=say("List the cache policies: what each keeps, whether it is lossless, and its bytes a token."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim caches\n  kvsim caches --model llama-3.1-405b --dtype bfloat16",
    )
    @click.option(
        "--model",
        default="demo",
        show_default=True,
        metavar="NAME|DIR|config.json",
        shell_complete=complete_config,
        help=say("The model: a bundled or public one's name, a folder with config.json, or such a file."),
    )
    @click.option(
        "--dtype", default="float32", show_default=True, shell_complete=complete_dtype,
        help=say("What the rows are kept in, where the policy does not say."),
    )  # fmt: skip
    @shown(say, "caches")
    @common(say)
    def caches(model: str, dtype: str, as_json: bool, ascii_only: bool) -> int:
        from kvsim.costs.bytes.policies import list_policies

        policies = list_policies(model, dtype)
        if as_json:
            click.echo(json.dumps(policies.to_dict(), ensure_ascii=False))
        else:
            from kvsim.views.terminal.caches import tell_policies

            color = use_color(sys.stdout)
            click.echo(tell_policies(policies, say, ascii_only, color), color=color)
        return 0

    return caches
