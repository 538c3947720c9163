"""`kvsim caches`: the list of cache policies."""

import click

from kvsim.cli.options import common, complete_config, complete_dtype, shown
from kvsim.cli.screen import find_screen, show
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "caches",
        help=say("List the cache policies: what each keeps, whether it is lossless, and its bytes per token."),
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
        help=say("The data type of the rows, where the policy does not define it."),
    )  # fmt: skip
    @shown(say, "caches")
    @common(say)
    def caches(model: str, dtype: str, as_json: bool, ascii_only: bool) -> int:
        from kvsim.costs.bytes.policies import list_policies

        policies = list_policies(model, dtype)
        if as_json:
            from kvsim.schemas import dump

            click.echo(dump(policies.to_dict()))
        else:
            from kvsim.views.terminal.caches import format_policies

            screen = find_screen(ascii_only)
            show(format_policies(policies, say, screen), screen)
        return 0

    return caches
