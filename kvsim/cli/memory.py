"""`kvsim memory MODEL`: what weights and KV cache take, exact."""

import re
import sys

import click
from click.shell_completion import CompletionItem

from kvsim.cli.options import Number, common, known, note, note_assumed, use_color
from kvsim.errors import UsageError, shortened
from kvsim.i18n.language import Say

CONTEXTS = (4_096, 32_768, 131_072)  # up to the model's own, which is shown too
UNBOUNDED = 2**31 - 1  # a model without a context of its own


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Public models' names, and files."""
    from kvsim.costs.public.models import read_catalogue

    names = [CompletionItem(name) for name in read_catalogue() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def read_contexts(given: tuple[str, ...]) -> list[int]:
    """("4096,32768", "8192") -> [4096, 32768, 8192]."""
    words = [word for part in given for word in part.split(",")]
    for word in words:
        if not re.fullmatch("[0-9]{1,19}", word):
            raise UsageError(
                "--context takes whole numbers, as in 4096,32768, got {value}", value=shortened(",".join(given))
            )
    return [int(word) for word in words]


def default_contexts(longest: int) -> list[int]:
    """Usual ones that the model has, and its own."""
    usual = [context for context in CONTEXTS if context < longest]
    return usual if longest >= UNBOUNDED else [*usual, longest]


def command(say: Say) -> click.Command:
    @click.command(
        "memory",
        help=say(
            "Count what the weights of MODEL and its KV cache take: exact bytes, GiB and GB. MODEL: a public model's"
            " name, a folder with config.json, or such a file."
        ),
        epilog=say("Examples:")
        + "\n\n\b\n  kvsim memory llama-2-7b-hf --dtype float16 --context 4096,32768"
        + "\n  kvsim memory gemma-3-27b-pt --cache-dtype int8 --context 131072",
    )
    @click.argument("model", shell_complete=complete_name)
    @click.option(
        "--context", "contexts", multiple=True, metavar="N[,N...]", help=say("Tokens in the cache; several may be"
                      " asked. By default usual ones up to the model's own."),
    )  # fmt: skip
    @click.option("--batch", type=Number(int), default=1, show_default=True, help=say("Sequences of that length."))
    @click.option(
        "--dtype", default="bfloat16", show_default=True,
        shell_complete=known("float64", "float32", "float16", "bfloat16"), help=say("What the weights are in."),
    )  # fmt: skip
    @click.option(
        "--cache-dtype", metavar="DTYPE", shell_complete=known("float16", "bfloat16", "int8", "int4", "fp8"),
        help=say("What the cache is in: a dtype, int8, int4 or fp8 (int8:zero, int4:zero: with zero points); by"
                 " default that of the weights."),
    )  # fmt: skip
    @click.option("--block", type=Number(int), default=16, show_default=True, help=say("Rows of a page."))
    @click.option("--source", type=Number(int), help=say("Encoder positions; a model with an encoder needs them."))
    @click.option(
        "--json", "as_json", is_flag=True, help=say("Print one JSON object (its schema: kvsim schema memory).")
    )
    @click.option("--ascii", "ascii_only", is_flag=True, help=say("Draw with ASCII characters."))
    @click.option("-v", "--verbose", is_flag=True, help=say("List the facts of the model that are used,"
                  " and what its config.json leaves out."))  # fmt: skip
    @common(say)
    def memory(
        model: str, contexts: tuple[str, ...], batch: int, dtype: str, cache_dtype: str | None, block: int,
        source: int | None, as_json: bool, ascii_only: bool, verbose: bool,
    ) -> int:  # fmt: skip
        from kvsim.costs.bytes.memory import measure_memory
        from kvsim.costs.public.models import find_config, read_catalogue

        asked = read_contexts(contexts)
        if verbose:
            note_assumed(say, model)
        config = find_config(model)[1]
        measured = measure_memory(
            model, asked or default_contexts(config.max_context), batch=batch, dtype=dtype, cache_dtype=cache_dtype,
            block=block, source=source,
        )  # fmt: skip
        for context in asked:
            if context > config.max_context:
                note(
                    say("note: a context of {context} is beyond the model's {longest}: counted all the same").format(
                        context=f"{context:,}", longest=f"{config.max_context:,}"
                    )
                )
        from kvsim.views.terminal.memory import tell_memory, to_json

        if as_json:
            click.echo(to_json(measured))
        else:
            color = use_color(sys.stdout)
            facts = read_catalogue()[model]["source"] if model in read_catalogue() else model
            click.echo(tell_memory(measured, say, ascii_only, color, facts, verbose), color=color)
        return 0

    return memory
