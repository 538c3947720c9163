"""`kvsim vectors`: configs, questions and exact answers, for tools in any language to test themselves."""

import click

from kvsim.cli.options import common
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "vectors",
        help=say(
            "Print conformance vectors: one JSON object a line (its schema: kvsim schema vectors), with a model's"
            " config, a question and the exact answer. For tools in any language to test themselves."
        ),
        epilog=say("Examples:") + "\n\n\b\n  kvsim vectors > vectors.jsonl\n  kvsim vectors | head -1",
    )
    @common(say)
    def vectors() -> int:
        from kvsim.costs.vectors import list_vectors, to_line

        for vector in list_vectors():
            click.echo(to_line(vector))
        return 0

    return vectors
