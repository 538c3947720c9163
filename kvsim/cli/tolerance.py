"""`kvsim tolerance`: the difference to allow between two correct implementations in a number format, and why."""

import click

from kvsim.cli.options import Bar, Number, common, json_option, known
from kvsim.cli.screen import find_screen
from kvsim.errors import UsageError
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "tolerance",
        help=say("Measure how far correct code may be off in a number format: which atol to use, and why."),
        epilog=say("Examples:") + "\n\n\b\n  kvsim tolerance --dtype bf16\n"
        "  kvsim tolerance --dtype float16 --context 1024 --layers 4 --heads 8",
    )
    @click.option(
        "--dtype", default="float32", show_default=True, help=say("float64, float32, float16, bf16, fp8 or e5m2."),
        shell_complete=known("float64", "float32", "float16", "bfloat16", "fp8", "e5m2"),
    )  # fmt: skip
    @click.option("--context", type=Number(int), default=128, show_default=True, help=say("Tokens in the text."))
    @click.option("--layers", type=Number(int), default=2, show_default=True, help=say("Layers."))
    @click.option("--heads", type=Number(int), default=4, show_default=True, help=say("Query heads."))
    @click.option("--kv-heads", type=Number(int), default=2, show_default=True, help=say("Key/value heads."))
    @click.option("--d-head", type=Number(int), default=8, show_default=True, help=say("Size of a head."))
    @click.option("--seed", type=Number(int), default=0, show_default=True, help=say("Seed of weights and texts."))
    @json_option(say, "tolerance")
    @common(say)
    def tolerance(
        dtype: str, context: int, layers: int, heads: int, kv_heads: int, d_head: int, seed: int, as_json: bool,
    ) -> int:  # fmt: skip
        from kvsim.schemas import dump
        from kvsim.testing.tolerances import measure_tolerance
        from kvsim.views.json.oracle import tolerance_dict
        from kvsim.views.terminal.oracle import format_tolerance

        if context < 1 or seed < 0:
            raise UsageError(
                "--context is at least 1 and --seed at least 0, got {context} and {seed}", context=context, seed=seed
            )
        with Bar(say("measuring")) as bar:
            found = measure_tolerance(
                dtype, context, seed, bar, layers=layers, heads=heads, kv_heads=kv_heads, d_head=d_head
            )
        screen = find_screen()
        click.echo(dump(tolerance_dict(found, seed)) if as_json else format_tolerance(found, say, screen))
        return 0

    return tolerance
