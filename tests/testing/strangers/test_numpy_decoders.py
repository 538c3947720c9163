"""Independent NumPy decoders: correct ones are accepted in every style and dtype, wrong ones diagnosed."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from kvsim import testing
from kvsim.errors import UsageError
from kvsim.testing import OracleError
from tests.marks import case
from tests.testing.strangers import numpy_decoders

SOURCE = Path(numpy_decoders.__file__).read_text(encoding="utf-8")
DTYPES = ("float64", "float32", "float16", "bfloat16")
TOO_FINE = (("NormPlusInput", "bfloat16"),)  # a hundredth is within the rounding of eight-bit significands
WRONG = re.findall(r"^class (\w+)\(.*# expect: (\w+)$", SOURCE, re.MULTILINE)


def check(cls, weights, **more):
    testing.assert_split_invariant(lambda: cls(weights), lambda m, ids: m.forward(ids), weights, **more)


def weights_in(dtype, **more):
    """Weights in NumPy's dtypes, or in ml_dtypes' bfloat16."""
    if dtype != "bfloat16":
        return testing.weights(dtype=dtype, **more)
    kind = pytest.importorskip("ml_dtypes").bfloat16
    weights = testing.weights(dtype=dtype, array=lambda x: x.astype(kind), **more)
    assert {array.dtype for array in weights.values()} == {np.dtype(kind)}
    return weights


# Without a window, two of the dtypes with the extra dev.
RIGHT = [
    case(cls, window, dtype, id=f"{dtype}-{window}-{cls.__name__}", dev=window is None and dtype in DTYPES[1:3])
    for dtype in DTYPES for window in (None, 4) for cls in numpy_decoders.RIGHT
]  # fmt: skip


@pytest.mark.parametrize(("cls", "window", "dtype"), RIGHT)
def test_correct_decoders_are_accepted(cls, window, dtype):
    check(cls, weights_in(dtype, window=window), cases=2)


def test_the_bfloat16_decoder_computes_in_bfloat16():
    weights = weights_in("bfloat16")
    assert numpy_decoders.Narrow(weights).forward([1, 2, 3]).dtype == weights["lm_head.weight"].dtype


@pytest.fixture
def no_mistakes(monkeypatch):
    """For a test that does not look at the diagnosis: running every mistake of the bank would be most of its time."""
    monkeypatch.setattr("kvsim.testing.verdict.diagnosing.BANK", {})


@pytest.mark.usefixtures("no_mistakes")
@pytest.mark.parametrize(("short", "full"), [("f32", "float32"), ("bf16", "bfloat16")])
def test_the_dtype_of_computation_may_be_given(short, full):
    """For logits that are returned in a wider dtype."""
    weights = testing.weights()
    step = lambda m, ids: m.forward(ids) + 1e-6  # noqa: E731
    testing.assert_split_invariant(lambda: numpy_decoders.NumpyDecoder(weights), step, weights, dtype=short)
    with pytest.raises(OracleError, match="the reference's own float64 error"):
        testing.assert_split_invariant(lambda: numpy_decoders.NumpyDecoder(weights), step, weights)
    with pytest.raises(OracleError, match=f"the reference's own {full} error"):
        testing.assert_split_invariant(
            lambda: numpy_decoders.NumpyDecoder(weights), lambda m, ids: m.forward(ids) + 3, weights, dtype=short
        )


def test_dtypes_that_numpy_lacks_are_stored_in_float32():
    """Exactly: float32 represents every bfloat16 number."""
    wide, narrow = testing.weights(dtype="bfloat16"), weights_in("bfloat16")
    for name, array in wide.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, narrow[name].astype(np.float32))
    with pytest.raises(UsageError, match=r"made of NumPy's by array=: model\.embed_tokens\.weight is of object"):
        check(numpy_decoders.NumpyDecoder, testing.weights(array=lambda x: object()))


# Every decoder in float64 and in the coarsest dtype, there two of three with the extra dev; every third one in the
# others, which are between.
IN_DTYPES = [
    case(name, expected, dtype, id=f"{name}-{dtype}", dev=dtype == "bfloat16" and i % 3 != 0)
    for i, (name, expected) in enumerate(WRONG) for dtype in DTYPES
    if dtype in ("float64", "bfloat16") or i % 3 == 0
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "dtype"), IN_DTYPES)
def test_wrong_decoders_are_diagnosed(name, expected, dtype):
    if (name, dtype) in TOO_FINE:
        check(getattr(numpy_decoders, name), weights_in(dtype, window=4))
        return
    with pytest.raises(OracleError) as caught:
        check(getattr(numpy_decoders, name), weights_in(dtype, window=4))
    assert caught.value.facts["diagnosis"] == [expected]
    assert f"diagnosis: [{expected}]" in str(caught.value)


def test_the_numbers_of_decoders():
    assert len(WRONG) >= 12
    assert len(numpy_decoders.RIGHT) >= 6


def test_each_window_gets_its_own_weights():
    made = []

    def make(weights):
        made.append(weights.config.window)
        return numpy_decoders.NumpyDecoder(weights)

    testing.assert_split_invariant(make, lambda m, ids: m.forward(ids), testing.weights(), windows=(None, 4))
    assert set(made) == {None, 4}
    with pytest.raises(OracleError, match="window_ignored"):
        testing.assert_split_invariant(
            lambda w: numpy_decoders.NumpyDecoder(w.with_window(None)), lambda m, ids: m.forward(ids),
            testing.weights(), windows=(None, 4),
        )  # fmt: skip


@pytest.mark.usefixtures("no_mistakes")
@pytest.mark.parametrize("sizes", [
    {"heads": 4, "kv_heads": 4}, {"heads": 6, "kv_heads": 1, "d_head": 4}, {"heads": 6, "kv_heads": 3, "layers": 1},
    {"heads": 1, "kv_heads": 1, "d_head": 2, "window": 1},
])  # fmt: skip
def test_other_sizes(sizes):
    check(numpy_decoders.NumpyDecoder, testing.weights(**sizes))
    with pytest.raises(OracleError):
        check(numpy_decoders.PositionsFromZero, testing.weights(**(sizes | {"window": None})))


def test_tiling_is_correct_with_one_key_value_head():
    """Repeating one key/value head and tiling it are the same."""
    weights = testing.weights(heads=4, kv_heads=1)
    check(numpy_decoders.Tiles, weights)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_failure_text(language, monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", language)
    with pytest.raises(OracleError) as caught:
        check(numpy_decoders.TopLeft, testing.weights(window=4))
    text = str(caught.value)
    for part in ("[mask_top_left]", "[1, 1]", "kvsim explain mask_top_left --heads 4 --kv-heads 2 --window 4"):
        assert part in text
    words = {"en": ("logits differ", "who depends on whom", "8 of 8 failing"), "zh": ("诊断：", "依赖关系", "最小切分")}
    assert all(word in text for word in words[language])


def test_a_policy():
    class Window(numpy_decoders.NumpyDecoder):
        def mask(self, t, s):
            return super().mask(t, s) & ~np.tril(np.ones((t, s), bool), s - t - 3)

    weights = testing.weights()
    step = lambda m, ids: m.forward(ids)  # noqa: E731
    testing.assert_policy(lambda: Window(weights), step, weights, "window:3")
    with pytest.raises(OracleError, match=r"under window:4(.|\n)*window_keeps_one_less"):
        testing.assert_policy(lambda: Window(weights), step, weights, "window:4")


def test_close_to():
    class Rounded(numpy_decoders.NumpyDecoder):
        def remember(self, layer, k, v):
            k, v = super().remember(layer, k, v)
            return np.round(k * 64) / 64, np.round(v * 64) / 64

    weights = testing.weights()
    make, step = lambda: Rounded(weights), lambda m, ids: m.forward(ids)
    testing.assert_close_to(make, step, weights, max_logit_error=0.1, min_top1=0.8)
    with pytest.raises(OracleError, match="away from the reference"):
        testing.assert_close_to(make, step, weights, max_logit_error=1e-4)
    with pytest.raises(OracleError, match="away from the reference"):
        testing.assert_close_to(lambda: numpy_decoders.PositionsFromZero(weights), step, weights, max_logit_error=10,
                                min_top1=1.0)  # fmt: skip


def test_cache_rows():
    weights = testing.weights()
    step = lambda m, ids: m.forward(ids)  # noqa: E731
    testing.assert_cache_rows(lambda: numpy_decoders.NumpyDecoder(weights), step, lambda m: m.caches, weights)
    with pytest.raises(OracleError, match="layer 0 differ from the reference's: keys"):
        testing.assert_cache_rows(lambda: numpy_decoders.PositionsFromZero(weights), step, lambda m: m.caches, weights)
    with pytest.raises(OracleError, match="have shape"):
        testing.assert_cache_rows(lambda: numpy_decoders.NumpyDecoder(weights), step, lambda m: m.caches, weights,
                                  layout="t h d")  # fmt: skip


def test_a_function_that_misbehaves():
    weights = testing.weights()

    def first_line(step, make=lambda: numpy_decoders.NumpyDecoder(weights)):
        with pytest.raises(OracleError) as caught:
            testing.assert_split_invariant(make, step, weights)
        assert caught.value.facts["diagnosis"] in ([], ["unknown"])
        return str(caught.value).splitlines()[0]

    right = lambda m, ids: m.forward(ids)  # noqa: E731
    assert first_line(lambda m: None).startswith("<lambda> cannot be called with 2 arguments: ")
    assert "raised RuntimeError: boom (feed [3, 3, 1], step 0)" in first_line(right, lambda: (_ for _ in ()).throw(
        RuntimeError("boom")))  # fmt: skip
    assert "raised SystemExit" in first_line(lambda m, ids: sys.exit(3))
    assert "shape [1, 31], expected [T, V] = [3, 31]" in first_line(lambda m, ids: m.forward(ids)[-1:])
    assert "cannot be read as an array" in first_line(lambda m, ids: object())
    assert "expected floating point numbers" in first_line(lambda m, ids: m.forward(ids).astype(complex))
    assert "changed the list of ids" in first_line(lambda m, ids: (m.forward(ids), ids.append(3))[0])

    def blank(m, ids):
        logits = m.forward(ids)
        logits[0, 0] = np.nan
        return logits

    with pytest.raises(OracleError, match=r"holds nan at \[0, 0\]"):
        testing.assert_split_invariant(lambda: numpy_decoders.NumpyDecoder(weights), blank, weights)
