"""`kvsim learn` as a learner, a pipe and a grader use it."""

import json
import re
from dataclasses import replace

import jsonschema
import pytest
from rich.cells import cell_len

from kvsim.cli import run
from kvsim.learn import checking
from kvsim.learn.checking import FAILED, SKIPPED, Outcome
from kvsim.learn.exercise import LEVELS, list_exercises
from kvsim.learn.folder import STATE, read_state, write_state
from kvsim.learn.naming import fail
from kvsim.schemas import read_schema
from kvsim.testing.subject.calls import Problem
from kvsim.testing.verdict.text import speak
from kvsim.views.terminal.learn import format_outcome
from tests.learn.here import BY_ID, HERE, files_of, hand_in, run_here
from tests.learn.pack import reference_of

COUNT = len(list_exercises())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A learner's folder, in which code is checked without processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVSIM_LANG", "en")
    monkeypatch.setattr(checking, "run_apart", run_here)
    monkeypatch.setattr(checking.check, "__defaults__", (run_here, "float64"))
    monkeypatch.setattr(checking.check_all, "__defaults__", (run_here,))
    assert run(["learn", "init", "--seed", "3"]) == 0
    return tmp_path / "learn"


def said(capsys, *argv, code=0):
    capsys.readouterr()
    assert run(["learn", *argv]) == code
    out, err = capsys.readouterr()
    assert err == ""
    assert [line for line in out.splitlines() if cell_len(line) > 80 and line[0] != "{"] == []
    return out


def test_init_writes_every_file_and_keeps_what_is_there(folder, capsys):
    names = {name for one in list_exercises() for name in one.files}
    assert {file.name for file in folder.iterdir()} == names | {STATE}
    assert all("{{" not in (folder / name).read_text(encoding="utf-8") for name in names)
    mine = folder / "02_attention_step.py"
    mine.write_text("x = 1\n", encoding="utf-8")
    (folder / "01_count_waste.toml").unlink()
    said(capsys, "init")
    assert mine.read_text(encoding="utf-8") == "x = 1\n"
    assert (folder / "01_count_waste.toml").is_file()
    assert read_state(folder).seed == 3
    assert run(["learn", "init", "--seed", "4"]) == 2
    assert "has the seed 3, not 4" in capsys.readouterr().err


def test_a_drawn_seed_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said(capsys, "init", "a")
    seed = read_state(tmp_path / "a").seed
    said(capsys, "init", "a")
    assert read_state(tmp_path / "a").seed == seed


def test_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for argv in ([], ["run", "01"], ["check", "--all"], ["hint", "01"], ["list", "--dir", "."]):
        assert run(["learn", *argv, "--lang", "en"]) == 4
        assert capsys.readouterr().err.startswith("kvsim: error: ")
    assert run(["learn", "list"]) == 0
    assert run(["learn", "check"]) == 2
    assert run(["learn", "run", "99", "--lang", "en"]) == 2
    assert "unknown exercise '99': use one of 01 count_waste" in capsys.readouterr().err


def test_the_status_through_a_pipe(folder, capsys):
    out = said(capsys)
    assert out.startswith(f"[--------------------] 0/{COUNT}\n")
    assert out.endswith("next: kvsim learn show 01, then kvsim learn run 01\n")
    assert "下一个" in said(capsys, "--lang", "zh")


def test_the_status_when_all_are_passed(folder, capsys):
    state = read_state(folder)
    for one in list_exercises():
        state = state.with_outcome(one.id, True)
    write_state(folder, state)
    last = list_exercises()[-1].number
    assert said(capsys).endswith(f"all exercises are passed; another solution: kvsim learn solution {last:02}\n")


def test_each_mistake_has_a_line_of_its_own(folder, capsys):
    text = (folder / "01_count_waste.toml").read_text(encoding="utf-8")
    given = re.sub(r'(?m)^(\w+) = "\?"', r"\1 = 28", re.sub(r'\[("\?", )*"\?"\]', "[1, 3, 6, 10, 15, 21, 28]", text))
    (folder / "01_count_waste.toml").write_text(given, encoding="utf-8")
    lines = said(capsys, "run", "01", code=1).splitlines()
    found = [line for line in lines if "diagnosis: " in line]
    assert len(found) >= 2
    assert all(line.count("[") == 1 for line in found)
    assert "7 numbers are wrong; the first wrong one is number 2: 3" in " ".join(" ".join(lines).split())


def test_a_command_is_printed_once(folder):
    exercise, id = BY_ID["window_and_sinks"], "sink_positions_not_reindexed"
    text = str(fail(exercise, Problem("{name} is wrong", {"name": "update"}), id))
    assert f"kvsim explain {id}" in text
    assert format_outcome(Outcome(exercise, FAILED, text, (id,)), 0, speak()).count(f"kvsim explain {id}") == 1


def test_a_learners_way(folder, capsys):
    assert "not started" in said(capsys, "run", code=1)
    hand_in(BY_ID["attention_step"], HERE / "mistakes/attention_step/mask_top_left.py", folder, 3)
    out = said(capsys, "run", "02", code=1)
    assert "[mask_top_left]" in out
    assert "kvsim explain mask_top_left" in out
    assert "hints left: 3" in out
    assert said(capsys, "solution", "02", code=1).startswith("attention_step is not passed yet")
    hints = [said(capsys, "hint", "attention_step") for _ in range(LEVELS + 1)]
    assert hints[0] in hints[1] in hints[2] == hints[3]
    hand_in(BY_ID["attention_step"], reference_of(BY_ID["attention_step"]), folder, 3)
    out = said(capsys, "run", "attention_step")
    assert "passed" in out
    assert f"] 1/{COUNT}" in out
    assert said(capsys, "solution", "02") == reference_of(BY_ID["attention_step"]).read_text(encoding="utf-8")
    assert "✓ 02" in said(capsys, "list")
    mine = (folder / "02_attention_step.py").read_text(encoding="utf-8")
    said(capsys, "reset", "02")
    said(capsys, "reset", "02")
    assert (folder / "02_attention_step.py.bak").read_text(encoding="utf-8") == mine
    assert (folder / "02_attention_step.py.bak1").is_file()
    assert read_state(folder).passed == ()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_show(folder, capsys, language):
    for exercise in list_exercises():
        out = said(capsys, "show", exercise.id, "--lang", language)
        assert out.startswith(f"# {exercise.number:02} {exercise.titles[language]}")


def test_a_prediction_is_told(folder, capsys):
    hand_in(BY_ID["kv_cache"], HERE / "mistakes/kv_cache/fake.py", folder, 3)
    text = (folder / "04_kv_cache.toml").read_text(encoding="utf-8")
    text = text.replace('rows_without_cache = "?"', "rows_without_cache = 28").replace(
        'rows_with_cache = "?"', "rows_with_cache = 14"
    )
    (folder / "04_kv_cache.toml").write_text(text, encoding="utf-8")
    out = said(capsys, "run", "04", code=1)
    assert "values right, nothing saved: 56 K and V rows projected, 14 needed" in out
    assert "predicted rows_without_cache = 28, it is 56" in out
    assert "[one_row_for_two]" in out
    assert "kvsim explain" not in out  # neither is in the bank
    assert "predicted rows_with_cache = 14: right" in out


def test_a_grader(folder, capsys):
    """All exercises at once: nothing done, some, all; the state is made again when it is lost."""
    validator = jsonschema.Draft202012Validator(json.loads(read_schema("learn")))

    def grade(code):
        record = json.loads(said(capsys, "check", "--all", "--json", code=code))
        validator.validate(record)
        return record

    record = grade(1)
    assert (record["total"], record["seed"]) == (COUNT, 3)
    assert {one["status"] for one in record["exercises"]} <= {"not_started", "skipped"}
    for exercise in list_exercises():
        hand_in(exercise, reference_of(exercise), folder, 3)
    (folder / STATE).write_text("{", encoding="utf-8")
    assert run(["learn", "run", "01"]) == 4
    assert "kvsim learn check --all makes it again" in capsys.readouterr().err
    record = grade(0)
    assert (record["done"], record["seed"]) == (COUNT, 3)
    assert set(read_state(folder).passed) == set(BY_ID)
    (folder / STATE).unlink()
    hand_in(BY_ID["kv_cache"], files_of("mistakes", "kv_cache")[0], folder, 3)
    record = grade(1)
    assert record["seed"] == 3
    (wrong,) = [one for one in record["exercises"] if one["status"] not in ("passed", SKIPPED)]
    assert (wrong["id"], wrong["diagnosis"]) == ("kv_cache", ["concat_wrong_axis"])


def test_the_mistake_of_a_wrong_answer_stands_below_it(folder, capsys):
    exercise = BY_ID["count_waste"]
    hand_in(exercise, files_of("solutions", "count_waste")[0], folder, seed=3)
    file = folder / "01_count_waste.toml"
    text = file.read_text(encoding="utf-8").replace("total_rows = 84", "total_rows = 28")
    file.write_text(text.replace("total_cells = 140", "total_cells = 141"), encoding="utf-8")
    lines = said(capsys, "run", "01", code=1).splitlines()
    assert lines[1:4] == [
        "✗ wrong:",
        "  total_cells: 141 is less than 1 % off, and that is not close enough here",
        "  total_rows: 28 is too small: the right number is 3 times as large",
    ]
    assert lines[4].startswith("    diagnosis: [one_of_three] ")


def test_a_file_that_is_gone_is_told_in_both_languages(folder, capsys, monkeypatch):
    (folder / "02_attention_step.py").unlink()
    assert "there is no file 02_attention_step.py" in said(capsys, "run", "02", code=1)
    monkeypatch.setenv("KVSIM_LANG", "zh")
    assert "没有文件 02_attention_step.py" in said(capsys, "run", "02", code=1)


def test_the_list_does_not_take_a_damaged_state_for_none(folder, capsys):
    (folder / STATE).write_text("{", encoding="utf-8")
    assert run(["learn", "list"]) == 4
    assert "kvsim learn check --all makes it again" in capsys.readouterr().err


def test_no_next_exercise_is_named_after_the_last_one(folder, capsys):
    state = read_state(folder)
    write_state(folder, replace(state, passed=tuple(one.id for one in list_exercises())))
    assert said(capsys).splitlines()[-1].startswith("all exercises are passed; ")


def test_rows_are_counted_after_the_tokens_that_left_them(folder, capsys):
    exercise = BY_ID["window_and_sinks"]
    file = next(file for file in files_of("mistakes", exercise.id) if "nothing_evicted" in file.read_text("utf-8"))
    hand_in(exercise, file, folder, seed=3)
    found = re.search(r"too much kept: (\d+) rows after (\d+) tokens", said(capsys, "run", "11", code=1))
    assert found is not None
    assert found[1] == found[2]
