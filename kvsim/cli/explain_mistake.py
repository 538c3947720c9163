"""`kvsim explain [MISTAKE]`: a mistake of the bank, its smallest feed, a real bug of the kind, and a failing check."""

from typing import Any

import click

from kvsim.cli.options import Number, common, json_option
from kvsim.cli.screen import find_screen
from kvsim.i18n.language import Say, language_for_checks, language_of


def complete_mistake(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from kvsim.testing.bank import BANK

    return [CompletionItem(id) for id in BANK if id.startswith(incomplete)]


def command(say: Say) -> click.Command:
    @click.command(
        "explain",
        help=say("Show a mistake: what it is, its smallest feed, a real bug of the kind, and how the oracle finds it."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim explain\n  kvsim explain mask_top_left --queries 3 --keys 7",
    )
    @click.argument("mistake", required=False, shell_complete=complete_mistake)
    @click.option("--heads", type=Number(int), default=4, show_default=True, help=say("Query heads."))
    @click.option("--kv-heads", type=Number(int), default=2, show_default=True, help=say("Key/value heads."))
    @click.option("--window", type=Number(int), help=say("The model's window."))
    @click.option("--queries", type=Number(int), help=say("Show an attention function with this many queries."))
    @click.option("--keys", type=Number(int), help=say("Its number of keys."))
    @click.option("--d-head", type=Number(int), default=8, show_default=True, help=say("Size of a head."))
    @click.option("--layers", type=Number(int), default=2, show_default=True, help=say("Layers."))
    @click.option("--batch", type=Number(int), default=2, show_default=True, help=say("Batch size (attention)."))
    @click.option("--rotated", is_flag=True, help=say("Apply rotary positions to queries and keys first (attention)."))
    @click.option("--cases", type=Number(int), default=0, show_default=True, help=say("More feeds, cut at random."))
    @click.option("--length", type=Number(int), default=0, help=say("Tokens of the longest text, at least."))
    @click.option("--buffer", type=Number(int), help=say("Rows of the buffers that it reads, longer than the keys."))
    @click.option("--reading", type=Number(int), default=1, show_default=True, help=say("Which form of the mistake."))
    @click.option("--seed", type=Number(int), default=0, show_default=True, help=say("Seed of weights and texts."))
    @json_option(say, "explain")
    @common(say)
    def explain(
        mistake: str | None, queries: int | None, keys: int | None, as_json: bool, **sizes: Any,
    ) -> int:  # fmt: skip

        from kvsim.schemas import dump
        from kvsim.testing.bank import BANK, find_mistake
        from kvsim.testing.explaining import ExplainOptions, show_mistake
        from kvsim.views.json.oracle import explain_dict
        from kvsim.views.terminal.oracle import format_bank, format_mistake

        language, screen = language_of(say), find_screen()
        if mistake is None:
            known = BANK.values()
            click.echo(dump(explain_dict(known, language)) if as_json else format_bank(known, language, screen))
            return 0
        found = find_mistake(mistake)
        show = None
        if queries is not None or keys is not None:
            show = (min(3, keys or 7) if queries is None else queries, max(7, queries or 3) if keys is None else keys)
        with language_for_checks(language):
            text = show_mistake(found, ExplainOptions(show=show, **sizes))
        if as_json:
            click.echo(dump(explain_dict([found], language, text)))
        else:
            click.echo(format_mistake(found, text, say, screen))
        return 0

    return explain
