"""Files that commands write at their end: the path is tried at their start, and nothing is left if they fail."""

import os

import pytest

from kvsim.cli import run
from kvsim.comparisons import trace
from kvsim.costs.plans import sweep
from kvsim.errors import BackendError
from tests.files.test_writing import names_that_cannot_be

COMMANDS = {
    "plan": (sweep, "run_sweep", ["plan", "gpt2", "--sweep", "--device", "a10", "--context", "5", "--csv"]),
    "trace": (trace, "trace", ["trace", "中", "--svg"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_path_is_refused_before_the_work(name, tmp_path, monkeypatch, capsys):
    module, function, argv = COMMANDS[name]

    def work(*_, **__):
        raise BackendError("the work began")

    monkeypatch.setattr(module, function, work)
    for reason, path in names_that_cannot_be(tmp_path).items():
        assert run([*argv, str(path), "--lang", "en"]) == 4
        out, err = capsys.readouterr()
        assert (reason in err, err.count("\n"), out) == (True, 1, "")
    assert run([*argv, str(tmp_path / "new"), "--lang", "en"]) == 3  # a good path, and then the work fails
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_a_partial_sweep_into_a_stream_goes_there(tmp_path, monkeypatch):
    """Beside a pipe or a device there is no place for FILE.partial."""

    def broken(grid, scheduler):
        yield sweep.make_rows(grid, 0, 1)
        raise BackendError("a worker failed")

    monkeypatch.setattr(sweep, "run_sweep", broken)
    with (tmp_path / "out").open("wb") as out:
        argv = ["plan", "gpt2", "--sweep", "--device", "a10", "--context", "5,6", "--csv", f"/dev/fd/{out.fileno()}"]
        assert run(argv) == 3
    assert (tmp_path / "out").read_text().count("\n") == 2
    assert os.listdir(tmp_path) == ["out"]


ONE_FILE = (
    ["trace", "--svg", "a", "--html", "a"],
    ["trace", "--html", "a", "--perfetto", "link", "--clock", "model:a10"],
    ["compare", "--cache", "none", "--html", "a.svg", "--plot", "./a.svg"],
    ["bench", "--html", "a.svg", "--plot", "a.svg"],
)


@pytest.mark.parametrize("argv", ONE_FILE)
def test_two_outputs_do_not_replace_each_other(argv, tmp_path, monkeypatch, capsys):
    if "--plot" in argv:
        pytest.importorskip("matplotlib", reason="--plot needs the extra plot")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("a")
    assert run([*argv, *([] if argv[0] == "bench" else ["中"]), "--lang", "en"]) == 2
    assert "two outputs would go to" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["link"]


def test_a_device_takes_several_outputs():
    assert run(["trace", "中", "--svg", os.devnull, "--html", os.devnull]) == 0


def test_a_measured_timeline_does_not_time_the_recording_of_values(tmp_path, capsys):
    files = ["--html", str(tmp_path / "a"), "--perfetto", str(tmp_path / "b")]
    assert run(["trace", "中", *files, "--lang", "en"]) == 2
    assert "--html records values" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    assert run(["trace", "中", *files, "--clock", "model:a10"]) == 0


@pytest.mark.parametrize("option", ["--html", "--svg", "--perfetto"])
@pytest.mark.parametrize("value", ["--open", "-", ""])
def test_an_option_is_not_taken_for_a_file(option, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["trace", "中", option, value, "--lang", "en"]) == 2
    assert f"{option} takes a file, got" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
