"""What stdout can show: its width, its colors; and progress that never shares a line with results."""

import io
import re
from dataclasses import replace

import pytest

from kvsim.benchmark import decoding
from kvsim.cli import bench, options, run
from kvsim.cli.options import Bar
from kvsim.cli.screen import find_screen
from kvsim.views.terminal.bench import format_point
from kvsim.views.terminal.cells import format_cells
from kvsim.views.terminal.screen import NARROWEST, Screen
from tests.views.terminal.outputs import make


class Terminal(io.StringIO):
    """A terminal of 60 columns, as far as a progress bar needs one: `screen` is what can be read on it at the end."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|.|\n", self.getvalue(), re.DOTALL):
            if part == "\n":
                row, column = row + 1, 0
                lines += [""] * (row - len(lines) + 1)
            elif part == "\r":
                column = 0
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1] or 1)
            elif part == "\x1b[2K":
                lines[row] = ""
            elif not part.startswith("\x1b"):
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]


@pytest.fixture
def connect(monkeypatch):
    """Makes a terminal stdout and stderr. Called in the test, since pytest sets both again between fixture and test."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")

    def connected() -> Terminal:
        found = Terminal()
        monkeypatch.setattr("sys.stdout", found)
        monkeypatch.setattr("sys.stderr", found)
        return found

    return connected


def test_progress_and_results_take_turns(connect):
    terminal = connect()
    with Bar("contexts") as bar:
        bar.started -= 2  # as if a second had passed
        bar(1, 3)
        for done in (2, 3):
            with bar.hidden():
                print(f"row {done}")
            bar(done, 3)
    assert [line for line in terminal.screen if line] == ["row 2", "row 3"]
    assert "contexts" in terminal.getvalue()


def test_results_go_to_stdout_while_the_bar_is_on_stderr(connect, monkeypatch):
    connect()
    file = io.StringIO()
    monkeypatch.setattr("sys.stdout", file)
    with Bar("contexts") as bar:
        bar.started -= 2
        bar(1, 3)
        with bar.hidden():
            print("row 1")
        print("row 2")
    assert file.getvalue() == "row 1\nrow 2\n"


def test_without_hiding_they_share_lines(connect):
    """The check above can fail."""
    terminal = connect()
    with Bar("contexts") as bar:
        bar.started -= 2
        bar(1, 3)
        print("row 2")
        bar(2, 3)
    assert terminal.screen != ["row 2", ""]


def test_bench_hides_its_bar_for_each_row(connect, monkeypatch):
    """Every row of `kvsim bench` is whole, at the beginning of a line of its own."""
    monkeypatch.setattr(options, "PATIENCE", 0.0)
    measured = make("bench")
    monkeypatch.setattr(bench, "open_models", lambda _: (None, None, 3))
    monkeypatch.setattr(decoding, "start", lambda *_: replace(measured, points=[]))
    monkeypatch.setattr(decoding, "time_steps", lambda *_: iter(measured.points))
    terminal = connect()
    assert run(["bench", "--lang", "en"]) == 0
    rows = [line for line in terminal.screen if re.match(r" +\d+ +\d", line)]
    assert rows == [format_point(point, measured, Screen(60)) for point in measured.points]
    assert not [line for line in terminal.screen if "━" in line]
    assert terminal.getvalue().count("━") > 3


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("132", 132), ("7", NARROWEST)])
def test_the_width_is_that_of_the_terminal(connect, monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    connect()
    assert find_screen().width == width


def test_a_pipe_has_no_width_and_no_color(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert find_screen(ascii_only=True) == Screen(None, True, None)


@pytest.mark.parametrize(
    ("environment", "color"),
    [
        ({"COLORTERM": "truecolor"}, "truecolor"),
        ({}, "256"),
        ({"TERM": "xterm"}, "standard"),
        ({"TERM": "dumb"}, "standard"),
        ({"NO_COLOR": "1", "COLORTERM": "truecolor", "FORCE_COLOR": "1"}, None),
    ],
)
def test_colors_are_those_that_the_terminal_has(connect, monkeypatch, environment, color):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    connect()
    assert find_screen().color == color


def test_cells_have_the_colors_of_the_page_and_their_letters():
    """Cached grey, new K orange, new V green, masked pink, each with a black letter; nearest colors elsewhere."""
    say = str
    drawn = format_cells(make("trace"), say, 4, Screen(color="truecolor"))
    for letter, (red, green, blue) in {
        "x": (0xC8, 0x60, 0x9A), "c": (0xE0, 0xE0, 0xE0), "K": (0xE6, 0x9F, 0x00), "V": (0x00, 0xA8, 0x78),
    }.items():  # fmt: skip
        assert f"\x1b[38;2;0;0;0;48;2;{red};{green};{blue}m{letter}" in drawn
    plain = format_cells(make("trace"), say, 4)
    assert re.sub(r" +\n", "\n", re.sub(r"\x1b\[[0-9;]*m", "", drawn) + "\n") == plain + "\n"
    for system, code in (("256", "48;5;"), ("standard", r"\x1b\[30;4\dm")):
        assert re.search(code, format_cells(make("trace"), say, 4, Screen(color=system)))
