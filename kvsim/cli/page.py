"""--html and --open: the page of a result, for every command that has one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kvsim.cli.options import Decorated, OutputFile, combine, complete_file, note
from kvsim.errors import UsageError
from kvsim.files.writing import check_writable, is_special
from kvsim.i18n.language import Say, language_of
from kvsim.text import one_line


def page_options(say: Say) -> Callable[[Decorated], Decorated]:
    """--html FILE, and --open: `html` and `open_page`."""
    return combine(
        click.option(
            "--html", type=OutputFile(), metavar="FILE", shell_complete=complete_file,
            help=say("Write a page to this file: every cell and number, in any browser, without a network."),
        ),
        click.option("--open", "open_page", is_flag=True, help=say("Open the page of --html in a browser.")),
    )  # fmt: skip


def check_page(html: Path | None, open_page: bool) -> None:
    """To be called before the work. UsageError: --open without a file to open. FileError: it cannot be written."""
    if html is not None:
        check_writable(html)
    if open_page and (html is None or is_special(html)):
        raise UsageError("--open goes with --html FILE")


def show_page(result: Any, html: Path | None, open_page: bool, say: Say) -> None:
    """Write the page of `result`, if it is wanted, and open it in a browser; if there is no browser, note the path."""
    if html is None:
        return
    from kvsim.views.page.kinds import write_page

    write_page(result, html, language_of(say))
    if open_page:
        _open(html, say)


def _open(html: Path, say: Say) -> None:
    import webbrowser

    path = html.resolve()
    try:
        opened = webbrowser.open(path.as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        note(say("note: no browser was found: open {path} in one").format(path=one_line(str(path))))
