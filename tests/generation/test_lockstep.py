"""Several caches fed with the same tokens."""

import numpy as np
import pytest

from kvsim.generation.lockstep import run_lockstep
from kvsim.generation.sampling import Sampler
from tests.models import PRIMES, make_model


@pytest.mark.parametrize("feed", ["token", "prefill", "chunk:2"])
def test_new_says_whether_the_choice_was_appended(feed):
    """From the step that ends the prompt on; the ids fed are then the prompt and all new ids but the last."""
    model, prompt = make_model(PRIMES), [1, 2, 3, 4, 5]
    steps = list(run_lockstep(model, prompt, [model.new_cache("none")], 3, feed, Sampler()))
    new = [step.next for step in steps if step.new]
    assert [step.new for step in steps] == [False] * (len(steps) - 3) + [True] * 3
    assert [i for step in steps for i in step.fed] == [*prompt, *new[:-1]]
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))


def test_a_cache_that_has_seen_a_beginning_is_fed_the_rest():
    model = make_model(PRIMES)
    caches = [model.new_cache("dynamic"), model.new_cache("dynamic")]
    model([1, 2, 3], caches[0])
    first = next(run_lockstep(model, [1, 2, 3, 4], caches, 2, "prefill", Sampler()))
    rest, whole = (done.logits for done in first.passes)
    assert (len(rest), len(whole)) == (1, 4)
    assert np.abs(rest - whole[-1:]).max() <= 1e-12 * np.abs(whole).max()
    assert first.passes[0].ledger.macs < first.passes[1].ledger.macs


def test_keep_replaces_the_logits_of_later_passes():
    model = make_model(PRIMES)
    caches = [model.new_cache(spec) for spec in ("dynamic", "none", "static:9")]
    steps = run_lockstep(model, [1, 2], caches, 2, "token", Sampler(), keep=lambda first, own: (first.shape, own.shape))
    shapes = [[done.logits for done in step.passes[1:]] for step in steps]
    vocab = PRIMES.vocab_size
    assert shapes == [[((1, vocab), (n, vocab)), ((1, vocab), (1, vocab))] for n in (1, 2, 3)]
