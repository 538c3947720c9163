"""Help pages that fit the terminal. click measures its lines in characters, and a Chinese one takes two cells."""

from collections.abc import Iterable, Iterator

import click
from rich.cells import cell_len

from kvsim.i18n.wrapping import wrap

_NAMES = 30  # cells of the column of options, at most
_GAP = 2
_MARGIN = 2  # cells that click leaves free at the right


def _paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    """The paragraphs of a help text, and whether each is written as it is (its first line is \\b, as for examples)."""
    for part in text.split("\n\n"):
        lines = part.strip("\n").split("\n")
        if lines[0].strip() == "\b":
            yield True, "\n".join(lines[1:])
        elif part.strip():
            yield False, " ".join(line.strip() for line in lines)


class Formatter(click.HelpFormatter):
    """Writes help in lines of at most `width` cells."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The line of usage."""
        line = f"{'Usage: ' if prefix is None else prefix}{prog} {args}".rstrip()
        hang = min(cell_len(line) - cell_len(args), self.width // 2)
        self.write("\n".join(wrap(line, self.width, hang)) + "\n")

    def write_text(self, text: str) -> None:
        """Paragraphs, indented; of those that are written as they are, only lines wider than the terminal are cut."""
        blanks, shown = " " * self.current_indent, []
        for as_it_is, paragraph in _paragraphs(text):
            if as_it_is:
                lines = [part for line in paragraph.split("\n") for part in self._command(blanks + line)]
            else:
                lines = wrap(blanks + paragraph, self.width, len(blanks))
            shown.append("\n".join(lines))
        self.write("\n\n".join(shown) + "\n")

    def _command(self, line: str) -> list[str]:
        """A command that one may copy: where it takes several lines, each but the last ends in a backslash."""
        if cell_len(line) <= self.width + _MARGIN:
            return [line]
        *first, last = wrap(line, self.width - 2, self.current_indent + 4)
        return [*(f"{part} \\" for part in first), last]

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = _NAMES, col_spacing: int = _GAP) -> None:
        """Names, and beside each what it means; below it where the name is long."""
        rows = list(rows)
        indent = self.current_indent
        left = indent + min(max(cell_len(name) for name, _ in rows), col_max) + col_spacing
        for name, meaning in rows:
            head = " " * indent + name
            lines = [" " * left + line for line in wrap(meaning.replace("\n", " "), max(self.width - left, 10))]
            if lines and cell_len(head) + col_spacing <= left:
                lines[0] = head + lines[0][cell_len(head) :]
            else:
                lines = [*wrap(head, self.width, indent + 4), *lines]
            self.write("\n".join(lines) + "\n")


class Context(click.Context):
    """click's context, with this formatter."""

    formatter_class = Formatter
