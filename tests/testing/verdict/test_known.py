"""What is said of an unknown mistake: the steps and the position from which on it shows, and rounding."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.feeds.chunking import Texts
from kvsim.testing.feeds.feeding import More, run_check
from kvsim.testing.feeds.references import Reference
from kvsim.testing.verdict.isolating import find_layer_at_fault
from tests.testing.strangers.numpy_decoders import NumpyDecoder, SeesTwoFutureTokens
from tests.testing.verdict.test_layers import shown


class Scaled(NumpyDecoder):
    """Logits are a little too large in some steps."""

    def wrong(self, start, count):
        return True

    def forward(self, ids):
        start = self.seen
        return super().forward(ids) * (1.1 if self.wrong(start, len(ids)) else 1.0)


class InDecode(Scaled):
    def wrong(self, start, count):
        return start > 0 and count == 1


class InChunks(Scaled):
    def wrong(self, start, count):
        return count > 1


class LaterChunks(Scaled):
    def wrong(self, start, count):
        return start > 0 and count > 1


class OnceCached(Scaled):
    def wrong(self, start, count):
        return start > 0


class Late(NumpyDecoder):
    """From position 8 on."""

    def forward(self, ids):
        late = np.arange(self.seen, self.seen + len(ids)) >= 8
        return super().forward(ids) + late[:, None]


def known(cls, language, monkeypatch, **more):
    monkeypatch.setenv("KVSIM_LANG", language)
    weights = testing.weights(layers=1, heads=2, kv_heads=1, d_head=4)
    with pytest.raises(OracleError) as caught:
        testing.assert_split_invariant(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, **more)
    assert caught.value.facts["diagnosis"] == ["unknown"]
    return caught.value


CASES = {
    InDecode: (
        "first wrong only in steps of one token after others; right at every position before 1; right where texts are"
        " fed at once",
        "首次出错只在已有词元之后、每次一个词元的步中",
    ),
    InChunks: (
        "first wrong only in steps of several tokens; right where texts are fed token by token",
        "逐个词元喂入时正确",
    ),
    LaterChunks: (
        "first wrong only in chunks of several tokens after others; right at every position before 1; right where texts"
        " are fed token by token; right where texts are fed at once",
        "一次全部喂入时正确",
    ),
    OnceCached: (
        "first wrong only once something is cached; right at every position before 1; right where texts are fed at"
        " once",
        "首次出错只在缓存里已有内容之后",
    ),
    SeesTwoFutureTokens: (
        "first wrong only in steps of several tokens; right where texts are fed token by token; in feed [2] the"
        " query at position 0 must have seen the rows [0, 1] instead of [0]",
        "",
    ),
}


@pytest.mark.parametrize("cls", CASES)
def test_steps(cls, monkeypatch):
    en, zh = CASES[cls]
    assert f"  known    : {en}" in str(known(cls, "en", monkeypatch)).splitlines()
    assert zh in str(known(cls, "zh", monkeypatch))


def test_positions(monkeypatch):
    assert "right at every position before 8" in str(known(Late, "en", monkeypatch))
    assert "位置 8 之前全部正确" in str(known(Late, "zh", monkeypatch))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rounding(dtype, monkeypatch):
    """A decoder that computes in another format than its weights and logits have."""

    class Narrow:
        def __init__(self, weights):
            kept = testing.ModelWeights(weights.config, {n: x.astype(dtype) for n, x in weights.items()}, dtype)
            self.decoder = NumpyDecoder(kept)

        def forward(self, ids):
            return self.decoder.forward(ids).astype(np.float64)

    assert f"rounding to {dtype} explains this" in str(known(Narrow, "en", monkeypatch))


def test_nothing_is_known_of_what_is_wrong_everywhere(monkeypatch):
    assert "known" not in str(known(Scaled, "en", monkeypatch)).replace("unknown", "")


class OneLayerWrong(NumpyDecoder):
    """What layer 1 of three adds is a little too large."""

    def layer(self, i, x):
        made = super().layer(i, x)
        return x + 1.1 * (made - x) if i == 1 else made


class EveryLayerWrong(NumpyDecoder):
    def layer(self, i, x):
        made = super().layer(i, x)
        return x + 1.1 * (made - x)


def test_the_layer(monkeypatch):
    weights = testing.weights(layers=3, heads=2, kv_heads=1, d_head=4)

    def at_fault(cls, count):
        more = More(lambda m: m.layers(), None)
        made = shown(cls, count)
        check = run_check(lambda: made(weights), lambda m, ids: m.forward(ids), Reference(weights), Texts(), None, None,
                          more)  # fmt: skip
        return find_layer_at_fault(check, check.done[0])

    assert at_fault(OneLayerWrong, 3) == at_fault(OneLayerWrong, 2) == 1  # the last one need not be visible
    assert at_fault(OneLayerWrong, 1) is None
    assert at_fault(EveryLayerWrong, 3) is None
    monkeypatch.setenv("KVSIM_LANG", "en")
    with pytest.raises(OracleError, match=r"known    : wrong only in layer 1 \(from 0\): what the others give follows"):
        testing.assert_split_invariant(lambda: shown(OneLayerWrong)(weights), lambda m, ids: m.forward(ids), weights,
                                       layers=lambda m: m.layers())  # fmt: skip


class Skips(NumpyDecoder):
    """A decoded token at position 2 or later does not see the token at position 1."""

    def mask(self, t, s):
        seen = super().mask(t, s)
        if t == 1 and s > 2:
            seen = seen & (np.arange(s) != 1)
        return seen


def test_the_rows_that_it_must_have_seen(monkeypatch):
    said = str(known(Skips, "en", monkeypatch))
    assert "the query at position 2 must have seen the rows [0, 2] instead of [0, 1, 2]" in said
    assert "看到的必定是行 [0, 2]，应为 [0, 1, 2]" in str(known(Skips, "zh", monkeypatch))
    assert "must have seen" not in str(known(Scaled, "en", monkeypatch))
