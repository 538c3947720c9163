"""What every exercise must hold: its stub is not started, every solution passes, every mistake is named, both languages
have the same keys. To add an exercise needs no change here."""

import ast
import re
import tomllib
import zlib

import pytest
from rich.cells import cell_len

from kvsim.learn.checkers import CHECKERS
from kvsim.learn.checking import FAILED, NOT_STARTED, PASSED, SKIPPED
from kvsim.learn.exercise import LEVELS, TRACK, list_exercises
from kvsim.learn.folder import write_files
from kvsim.learn.looking import find_reference
from kvsim.learn.naming import find_named, list_ids
from kvsim.learn.solutions import FILE, read_solution
from kvsim.testing.bank import BANK
from kvsim.views.terminal.learn import WIDTH
from tests.learn.here import BY_ID, HERE, check_here, files_of, hand_in
from tests.learn.pack import reference_of

EXERCISES = [pytest.param(one, id=one.id) for one in list_exercises()]
RUN = [  # what needs a library is left to where all are installed
    pytest.param(one, id=one.id, marks=[pytest.mark.dev] if hasattr(one.checker, "missing") else [])
    for one in list_exercises()
]
LANGUAGES = ("en", "zh")
PLANNED = {"int8_cache", "paged_cache"}
FEW = 2  # of the mistakes in the fast suite: one of ten, from this one on
SEEDS = (1, 2, 777_777)


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")


def expected_of(file):
    """The id in the first line of a mistake's file."""
    return re.fullmatch(r"# expect: (\w+)", file.read_text(encoding="utf-8").splitlines()[0])[1]


def told(exercise, file, folder, seed=0, dtype="float64"):
    hand_in(exercise, file, folder, seed)
    return check_here(exercise, folder, seed, dtype)


def named(outcome, file):
    return (outcome.status, outcome.diagnosis) in [(FAILED, (expected_of(file),)), (SKIPPED, ())]


def passes(outcome):
    return outcome.status in (PASSED, SKIPPED) and outcome.diagnosis == ()


def test_the_track_is_the_table_of_checkers():
    assert set(BY_ID) == set(CHECKERS)
    assert [one.number for one in list_exercises()] == sorted(one.number for one in list_exercises())
    assert all(one.name == f"{one.number:02}_{one.id}" for one in list_exercises())
    for kind in ("solutions", "mistakes"):
        assert {folder.name for folder in (HERE / kind).iterdir() if folder.name != "__pycache__"} == set(BY_ID)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_is_not_started(exercise, tmp_path):
    write_files(tmp_path, exercise, exercise.files, 5)
    assert check_here(exercise, tmp_path, 5).status in (NOT_STARTED, SKIPPED)


@pytest.mark.parametrize("exercise", RUN)
def test_the_reference_passes_and_some_mistakes_are_named(exercise, tmp_path):
    assert passes(told(exercise, reference_of(exercise), tmp_path)), "reference"
    for file in files_of("mistakes", exercise.id)[FEW::10]:
        found = told(exercise, file, tmp_path)
        assert named(found, file), (file.name, found.diagnosis, found.text)


@pytest.mark.dev
@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_solution_passes(exercise, dtype, tmp_path):
    assert len(files_of("solutions", exercise.id)) >= 2
    for file in files_of("solutions", exercise.id):
        for seed in (0, *SEEDS):
            found = told(exercise, file, tmp_path, seed, dtype)
            assert passes(found), (file.name, seed, found.text)


@pytest.mark.dev
@pytest.mark.parametrize("seed", [0, *SEEDS])
@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_mistake_is_named(exercise, seed, tmp_path):
    for file in files_of("mistakes", exercise.id):
        found = told(exercise, file, tmp_path, seed)
        assert named(found, file), (file.name, found.diagnosis, found.text)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_ids_are_known_and_each_has_a_file(exercise):
    """Every mistake of the exercise's own is made by a file, unless it is one of a prediction."""
    made = {expected_of(file) for file in files_of("mistakes", exercise.id)}
    assert len(made) >= 3
    assert all(find_named(exercise, id).zh and find_named(exercise, id).en for id in made)
    own = set(list_ids(exercise))
    assert not own & BANK.keys()
    predicted = set()
    if exercise.entry and exercise.has_answers:
        predicted = {id for one in exercise.checker.answers(0).values() for id in one.near}
    assert own - predicted == made - BANK.keys() - predicted


@pytest.mark.parametrize("exercise", [p for p in EXERCISES if p.values[0].has_answers])
def test_wrong_answers_are_told_apart(exercise):
    """For every seed, no wrong answer is the right one, and no two mistakes give the same."""
    for seed in (0, 1, 2, 3, 5, 8, 14, 999_999):
        for name, one in exercise.checker.answers(seed).items():
            wrong = [str(value) for value in one.near.values()]
            assert len({*wrong, str(one.value)}) == len(wrong) + 1, (name, seed)
            assert not any(one.accepts(value) for value in one.near.values()), (name, seed)
            assert one.accepts(one.value)
            assert all(find_named(exercise, id) for id in one.near)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_both_languages_have_the_same_keys(exercise):
    tables = {"hints": [exercise.hints(language) for language in LANGUAGES]}
    assert all(len(hints) == LEVELS and all(hints) for hints in tables["hints"])
    assert set(exercise.mistakes("en")) == set(exercise.mistakes("zh"))
    assert set(exercise.titles) == set(LANGUAGES)
    names = {file.name for file in exercise.folder.iterdir()}
    assert {name.replace(".zh.", ".en.") for name in names} == {name.replace(".zh.", ".en.") for name in names
                                                               if ".zh." not in name}  # fmt: skip
    keys = [re.findall(r"`([^`]+)`", exercise.text(language)) for language in LANGUAGES]
    assert set(keys[0]) ^ set(keys[1]) <= {word for word in keys[0] + keys[1] if not word.isascii() or "rows" in word}


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_fit_a_terminal_and_name_the_section(exercise, language):
    texts = [exercise.text(language), *exercise.hints(language)]
    lines = [line for text in texts if "\n" in text for line in text.splitlines()]
    assert [line for line in lines if cell_len(line) > WIDTH] == []
    first = exercise.text(language).splitlines()[0]
    assert first.startswith(f"# {exercise.number:02} {exercise.titles[language]}")
    assert set(re.findall(r"22\.\d+(?:\.\d+)?", first)) == set(re.findall(r"22\.\d+(?:\.\d+)?", exercise.section))
    if language == "zh":
        prose = re.sub(r"`[^`]*`", "", exercise.text("zh"))
        assert re.findall(r"[\u4e00-\u9fff][,;:!?]", prose) == []


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_packed_solution_is_the_reference(exercise):
    """To write it: python -m tests.learn.pack"""
    packed = zlib.decompress((exercise.folder / FILE).read_bytes()).decode()
    assert packed == reference_of(exercise).read_text(encoding="utf-8")


@pytest.mark.parametrize("exercise", [p for p in EXERCISES if not p.values[0].entry])
def test_a_solution_of_answers_has_those_of_the_learners_seed(exercise, tmp_path):
    for seed in (3, 4):
        (tmp_path / f"{exercise.name}.toml").write_text(read_solution(exercise, seed), encoding="utf-8")
        assert check_here(exercise, tmp_path, seed).status == PASSED
    assert read_solution(exercise, 3) != read_solution(exercise, 4)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_facts_are_whole(exercise):
    assert set(exercise.needs) <= {one.id for one in list_exercises() if one.number < exercise.number} | PLANNED
    assert set(exercise.deliverables) <= set(range(1, 6))
    assert 5 <= exercise.minutes <= 90
    if exercise.entry:
        stub = ast.parse((exercise.folder / "stub.py").read_text(encoding="utf-8"))
        defined = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert set(exercise.entry) <= defined
        assert find_reference(stub) is None
    if exercise.has_answers:
        filled = exercise.start(f"{exercise.name}.toml", 7)
        assert "{{" not in filled
        given = tomllib.loads(filled)
        assert given.pop("seed") == 7
        assert set(given) == set(exercise.checker.answers(7))


def test_nothing_of_the_track_is_missing_from_the_wheel():
    """Every file of an exercise's folder lies directly in it, as setup.cfg's pattern expects."""
    for folder in TRACK.iterdir():
        assert all(file.is_file() for file in folder.iterdir() if file.name != "__pycache__")
