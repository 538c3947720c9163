"""What is said of an unknown mistake: the steps and the position from which on it shows, and rounding."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from tests.testing.strangers.numpy_decoders import NumpyDecoder, SeesTwoFutureTokens


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
    SeesTwoFutureTokens: ("first wrong only in steps of several tokens; right where texts are fed token by token", ""),
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
