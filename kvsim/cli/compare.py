"""`kvsim compare TEXT`: several caches over the same tokens."""

import sys

import click

from kvsim.cli.options import (
    Bar,
    Number,
    check_text,
    common,
    complete_cache,
    complete_file,
    known,
    note_unknown,
    running,
    shown,
    use_color,
)
from kvsim.errors import UsageError
from kvsim.i18n.language import Say

EXAMPLES = (
    '\n\n\b\n  kvsim compare "床前明月光，疑是地上霜。" --cache window:4 --cache none'
    "\n  kvsim compare --file text.txt --cache window:64 --feed chunk:16 -n 32 --json"
)


def _read(text: str | None, file: str | None) -> str:
    """TEXT, or what the file holds."""
    if (text is None) == (file is None):
        raise UsageError("give the text once: as TEXT, or with --file FILE (- for stdin)")
    if file is None:
        assert text is not None
        return text
    from kvsim.loading.text_file import read_text

    return read_text(file)


def command(say: Say) -> click.Command:
    @click.command(
        "compare",
        help=say("Feed the same tokens to several caches: their bytes and products, and how far their logits are from"
                 " those of a cache that keeps every row."),
        epilog=say("Examples:") + EXAMPLES,
    )  # fmt: skip
    @click.argument("text", required=False)
    @click.option(
        "--file", metavar="FILE", shell_complete=complete_file, help=say("Read the text from a file; - for stdin.")
    )
    @click.option(
        "--cache",
        "caches",
        multiple=True,
        metavar="SPEC",
        shell_complete=complete_cache,
        help=say("A cache, as kvsim caches lists them; again for more. Every lossy one's example by default."),
    )
    @click.option(
        "-n", "--max-new-tokens", type=Number(int), default=16, show_default=True, help=say("New tokens to generate.")
    )
    @click.option(
        "--feed",
        default="prefill",
        show_default=True,
        metavar="token|prefill|chunk:K",
        shell_complete=known("token", "prefill", "chunk:"),
        help=say("How the prompt is fed: token by token, at once, or K tokens to a step."),
    )
    @running(say)
    @shown(say, "compare")
    @common(say)
    def compare(
        text: str | None, file: str | None, caches: tuple[str, ...], max_new_tokens: int, feed: str, model: str,
        backend: str | None, device: str | None, dtype: str, as_json: bool, ascii_only: bool,
    ) -> int:  # fmt: skip
        prompt = _read(text, file)
        check_text(prompt)

        from kvsim.comparisons.policies import compare as run_compare

        with Bar(say("steps")) as bar:
            result = run_compare(
                prompt, model, caches or None, max_new_tokens, feed, backend=backend, device=device, dtype=dtype,
                progress=bar,
            )  # fmt: skip
        note_unknown(result.unknown, say)
        if as_json:
            click.echo(result.to_json())
        else:
            from kvsim.views.terminal.policies import tell_comparison

            color = use_color(sys.stdout)
            click.echo(tell_comparison(result, say, ascii_only, color), color=color)
        return 0 if result.agrees else 1

    return compare
