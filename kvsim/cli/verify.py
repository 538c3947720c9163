"""`kvsim verify FILE.py:NAME`: check an attention function, a cache, a quantiser or a decoder, and name its mistake."""

from pathlib import Path

import click

from kvsim.cli.options import Number, common, json_option, note
from kvsim.cli.page import check_page, page_options, show_page
from kvsim.cli.screen import find_screen
from kvsim.errors import UsageError
from kvsim.i18n.language import Say, language_for_checks, language_of
from kvsim.i18n.printable import printable


def command(say: Say) -> click.Command:
    @click.command(
        "verify",
        help=say(
            "Check a function (attention), a class with update (a cache) or another class (a decoder made from"
            " weights), and name its mistake. A cache or decoder with crop(length) or truncate(length), fork() or"
            " clone(), or a static method reorder(objects, order) or select(objects, order) is also cropped to its"
            " first tokens, forked, or put in another order between steps. The code runs in a separate process,"
            " without input, and the result is formed here from the arrays that it returns. It may still do what"
            " you may do, such as write your files and use the network: verify code that you would also run. What"
            " it starts is ended with it, unless it hides from kvsim."
        ),
        epilog=say("Examples:") + "\n\n\b\n  kvsim verify mine.py:KVCache\n"
        "  kvsim verify mine.py:attention --seed 3 --seconds 20\n"
        "  kvsim verify mine.py:attention --html failed.html --open",
    )
    @click.argument("target", metavar="FILE.py:NAME")
    @click.option("--seed", type=Number(int), default=0, show_default=True, help=say("Seed of weights and texts."))
    @click.option("--cases", type=Number(int), default=0, show_default=True, help=say("More feeds, cut at random."))
    @click.option("--length", type=Number(int), default=0, help=say("Tokens of the longest text, at least."))
    @click.option("--seconds", type=Number(float), default=60.0, show_default=True, help=say("Time limit in seconds."))
    @page_options(say)
    @json_option(say, "verify")
    @common(say)
    def verify(
        target: str, seed: int, cases: int, length: int, seconds: float, html: Path | None, open_page: bool,
        as_json: bool,
    ) -> int:  # fmt: skip
        from kvsim.checks import check_whole
        from kvsim.schemas import dump
        from kvsim.testing.verifying import FINE, NOT_STARTED
        from kvsim.testing.verifying import verify as check
        from kvsim.views.json.oracle import verify_dict
        from kvsim.views.terminal.oracle import format_report, say_outcome

        for name, value in (("cases", cases), ("length", length)):
            check_whole(name, value, 0)
        if seed < 0 or not seconds > 0:
            raise UsageError(
                "--seed is at least 0 and --seconds above 0, got {seed} and {seconds}", seed=seed, seconds=seconds
            )
        check_page(html, open_page)
        with language_for_checks(language_of(say)):
            found = check(target, seed, seconds, cases, length)
        ended, text = found.ended, "\n".join(printable(line) for line in found.text.split("\n"))
        if found.printed:
            note(say("the code printed: {text}").format(text=printable(found.printed.strip())[:300]))
        show_page(found, html, open_page, say)
        if as_json:
            click.echo(dump(verify_dict(target, seed, found._replace(text=text))))
            return 0 if ended in (FINE, NOT_STARTED) else 1
        text = say_outcome(found, text, say)
        click.echo(format_report(text, find_screen()))
        return 0 if ended in (FINE, NOT_STARTED) else 1

    return verify
