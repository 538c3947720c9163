"""An exercise that needs a library is skipped without it, and says what to install."""

import pytest

from kvsim.learn.checkers import hf_use_cache
from kvsim.learn.checking import FAILED, SKIPPED
from tests.learn.here import BY_ID, check_here

EXERCISE = BY_ID["hf_use_cache"]


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")


@pytest.mark.parametrize("absent", hf_use_cache.NEEDED)
def test_without_the_library(absent, monkeypatch, tmp_path):
    monkeypatch.setattr(hf_use_cache, "find_spec", lambda name: None if name == absent else object())
    found = check_here(EXERCISE, tmp_path)
    assert (found.status, found.done) == (SKIPPED, True)
    assert "pip install torch transformers" in found.text


@pytest.mark.dev
def test_the_model_does_not_generate_by_itself(tmp_path):
    code = "import torch\ndef generate(model, ids, n, use_cache):\n    return model.generate(torch.tensor([ids]))\n"
    (tmp_path / f"{EXERCISE.name}.py").write_text(code)
    found = check_here(EXERCISE, tmp_path)
    assert found.status == FAILED
    assert "write it yourself, with model(...) (line 3)" in found.text


@pytest.mark.parametrize("seed", range(40))
def test_no_two_wrong_predictions_are_the_same(seed):
    for one in hf_use_cache.answers(seed).values():
        assert len({one.value, *one.near.values()}) == len(one.near) + 1
