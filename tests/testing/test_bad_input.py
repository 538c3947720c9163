"""Code whose results cannot be compared: each kind of misbehaviour has its own message, never a numerical mismatch."""

import re
import time

import numpy as np
import pytest

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.verifying import BROKEN, WRONG, verify
from tests.testing.checks.test_attention import mine
from tests.testing.checks.test_quantisers import quantiser
from tests.testing.in_one_process import verify_here
from tests.testing.strangers.numpy_decoders import NumpyDecoder

QUANTISE, DEQUANTISE = quantiser()
MISMATCH = ("differ", "evidence", "diagnosis: [", "steps at")


def attention(result):
    """Attention that gives `result(right, q, k, v)`."""
    return lambda q, k, v: result(mine(q, k, v), k)


def check_attention(result, **more):
    testing.assert_attention(attention(result), **more)


def check_decoder(result, **more):
    weights = testing.weights()
    testing.assert_split_invariant(
        lambda: NumpyDecoder(weights), lambda m, ids: result(m.forward(ids), ids), weights, **more
    )


def check_close(result, **more):
    weights = testing.weights()
    testing.assert_close_to(
        lambda: NumpyDecoder(weights), lambda m, ids: result(m.forward(ids), ids), weights, max_logit_error=0.1, **more
    )


def check_quantiser(result, **more):
    testing.assert_quantiser(QUANTISE, lambda packed: result(DEQUANTISE(packed), packed), **more)


def check_rows(result, **more):
    weights = testing.weights()
    testing.assert_cache_rows(
        lambda: NumpyDecoder(weights), lambda m, ids: m.forward(ids), lambda m: result(m.caches, m), weights, **more
    )


def check_cost(result, **more):
    weights = testing.weights()
    testing.assert_cost(
        lambda: NumpyDecoder(weights), lambda m, ids: result(m.forward(ids), ids), [1, 1], reference=weights,
        score_cells=3, **more,
    )  # fmt: skip


CHECKS = [check_attention, check_decoder, check_close, check_quantiser, check_rows, check_cost]
SHAPED = [check_attention, check_decoder, check_close, check_quantiser]


def error_of(check, result, **more):
    with pytest.raises(OracleError) as caught:
        check(result, **more)
    text = str(caught.value)
    assert not any(word in text for word in MISMATCH), text
    assert caught.value.facts["diagnosis"] == []
    return text


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("KVSIM_LANG", "en")


def boom(*_):
    raise RuntimeError("boom")


def leave(*_):
    raise SystemExit(3)


def endless(*_):
    while True:
        time.sleep(0.01)  # leaves the processor to the others


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_code_that_raises_or_exits(check):
    assert "raised RuntimeError: boom" in error_of(check, boom)
    assert "raised SystemExit: 3" in error_of(check, leave)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_code_that_never_returns(check):
    assert "did not return within 0.3 s" in error_of(check, endless, seconds=0.3)


@pytest.mark.parametrize("check", SHAPED, ids=lambda c: c.__name__)
def test_results_of_other_shapes_dtypes_and_kinds(check):
    assert "shape" in error_of(check, lambda right, _: right[..., :-1])
    assert "an array of complex128, expected floating point numbers" in error_of(check, lambda x, _: x.astype(complex))
    assert "an array of int64, expected floating point numbers" in error_of(check, lambda x, _: np.rint(x).astype(int))
    assert "an array of bool, expected floating point numbers" in error_of(check, lambda x, _: x > 0)
    assert "the result NoneType cannot be read as an array" in error_of(check, lambda x, _: None)
    assert "the result is an array of <U6, expected floating point numbers" in error_of(check, lambda x, _: "logits")
    assert "the result list cannot be read as an array" in error_of(check, lambda x, _: [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("check", [check_decoder, check_close, check_quantiser], ids=lambda c: c.__name__)
def test_nan_and_infinity(check):
    def blank(value):
        def result(right, _):
            x = np.array(right)
            x[(0,) * x.ndim] = value
            return x

        return result

    for value in (np.nan, np.inf):
        with pytest.raises(OracleError, match="the result holds") as caught:
            check(blank(value))
        assert not any(word in str(caught.value) for word in ("differ", "away", "steps at")), caught.value


def test_nan_of_attention_is_the_headline():
    with pytest.raises(OracleError) as caught:
        check_attention(lambda x, _: np.where(np.arange(x.shape[1])[:, None, None] == 0, np.nan, x))
    first = str(caught.value).splitlines()[0]
    assert first.startswith("the result holds nan at [0, 0, 0, 0] (3 queries, 7 keys)")
    assert "differs from the reference" not in str(caught.value)


def test_other_arguments():
    weights = testing.weights()
    said = "cannot be called with"
    step = lambda m, ids: m.forward(ids)  # noqa: E731
    for check in (
        lambda: testing.assert_attention(lambda q, k: q),
        lambda: testing.assert_attention(lambda q, k, v: q, window=4),
        lambda: testing.assert_split_invariant(NumpyDecoder, step, weights),
        lambda: testing.assert_split_invariant(lambda: NumpyDecoder(weights), lambda m: m, weights),
        lambda: testing.assert_quantiser(lambda: 1, lambda x: x),
        lambda: testing.assert_quantiser(lambda x: x, lambda: 1),
        lambda: testing.assert_cache_rows(lambda: NumpyDecoder(weights), step, lambda: [], weights),
        lambda: testing.assert_cost(lambda: NumpyDecoder(weights), lambda m: m, [1], reference=weights, score_cells=1),
    ):
        with pytest.raises(OracleError, match=said):
            check()


def test_a_type_error_inside_is_not_the_arguments():
    assert "raised TypeError" in error_of(check_attention, lambda x, _: x + None)


def test_changed_inputs():
    def spoil(x):
        x[0] = 0
        return x

    assert "attention changed its input k" in error_of(check_attention, lambda x, k: (x, spoil(k))[0])
    assert "changed the list of ids" in error_of(check_decoder, lambda x, ids: (x, ids.append(3))[0])
    with pytest.raises(OracleError, match="quantise changed its input"):
        testing.assert_quantiser(lambda x: QUANTISE(spoil(x)), DEQUANTISE)


def test_changed_inputs_that_were_made_by_array():
    """The array that the function receives is checked, not the NumPy array that it was made from."""
    ml_dtypes = pytest.importorskip("ml_dtypes")

    def wrong(q, k, v):
        x = mine(*(x.astype(np.float32) for x in (q, k, v)))
        v[0] = 0
        return x

    with pytest.raises(OracleError, match="attention changed its input v"):
        testing.assert_attention(wrong, kv_heads=2, dtype="bf16", array=lambda x: x.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("check", [testing.assert_split_invariant, testing.assert_close_to])
def test_changed_weights(check):
    weights = testing.weights()

    class Scales(NumpyDecoder):
        def __init__(self, given):
            super().__init__(given)
            given["lm_head.weight"] *= 2.0

    more = {"max_logit_error": 10.0} if check is testing.assert_close_to else {}
    with pytest.raises(OracleError, match=r"the weights were changed by make or step: lm_head.weight \(feed"):
        check(lambda: Scales(weights), lambda m, ids: m.forward(ids), weights, **more)


def test_one_dtype_is_expected():
    def single(right, ids):
        return right.astype(np.float32) if len(ids) == 1 else right

    assert "step gave float32 after it gave float64, expected one dtype" in error_of(check_decoder, single)
    weights = testing.weights()
    with pytest.raises(OracleError, match="attention gave float32 after it gave float64"):
        testing.assert_attention(lambda q, k, v: mine(q, k, v).astype(np.float32 if len(q[0]) == 1 else np.float64))

    class Later(NumpyDecoder):
        n = 0

        def __init__(self, given):
            super().__init__(given)
            Later.n += 1
            self.kind = np.float32 if Later.n > 1 else np.float64

    with pytest.raises(OracleError, match="step gave float32 after it gave float64"):
        testing.assert_split_invariant(
            lambda: Later(weights), lambda m, ids: m.forward(ids).astype(m.kind), weights
        )  # fmt: skip


def test_array_that_raises():
    with pytest.raises(OracleError, match="boom raised RuntimeError: boom"):
        testing.assert_attention(mine, array=boom)
    with pytest.raises(OracleError, match="boom raised RuntimeError: boom"):
        testing.assert_quantiser(QUANTISE, DEQUANTISE, array=boom)


def test_rows_that_are_not_pairs_of_arrays():
    for nonsense in (None, [], 3, [1, 2], [(1, 2, 3)] * 2):
        assert "expected (keys, values) for each of 2 layers" in error_of(check_rows, lambda *_, x=nonsense: x)


def test_a_call_that_hangs_once_hangs_the_check_once():
    """After a call that ran into its time limit nothing more is called."""
    calls = []

    def hangs(right, ids):
        calls.append(len(ids))
        return endless() if len(ids) == 7 else right + 1.0  # wrong before

    text = error_of(check_decoder, hangs, seconds=2)
    assert "(feed [7], step 1)" in text
    assert calls == [3, 3, 1, 7]


@pytest.mark.dev
@pytest.mark.parametrize("check", SHAPED, ids=lambda c: c.__name__)
def test_another_device(check):
    import torch

    said = "the result Tensor is on the device meta, expected one on the host"
    assert said in error_of(check, lambda x, _: torch.from_numpy(np.array(x)).to("meta"))


@pytest.mark.dev
def test_inputs_on_another_device():
    import torch

    def attend(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    with pytest.raises(OracleError, match="is on the device meta"):
        testing.assert_attention(attend, "b h t d", array=lambda x: torch.from_numpy(x).to("meta"))


KINDS = {
    "attention": "import numpy as np\n\ndef it(q, k, v):\n    {}\n",
    "decoder": """import numpy as np

class it:
    def __init__(self, weights):
        pass

    def forward(self, ids):
        {}
""",
    "cache": """import numpy as np

class it:
    def update(self, layer, keys, values):
        {}
""",
    "quantiser": """import numpy as np

class it:
    def quantise(self, x):
        return x

    def dequantise(self, packed):
        {}
""",
}


BAD = (
    ("raise RuntimeError('boom')", "raised RuntimeError: boom"),
    ("raise SystemExit(3)", "raised SystemExit: 3"),
    ("return None", "NoneType|None"),
    ("return np.zeros((2, 2), complex)", "complex128|expected keys and values"),
    ("return np.zeros((2, 5))", "shape|expected keys and values"),
    ("return np.full((2, 2, 5), np.nan)", "shape|expected keys and values"),
)


@pytest.mark.parametrize(("kind", "line", "said"), [(kind, *bad) for kind in KINDS for bad in BAD])
def test_under_verify(kind, line, said, tmp_path):
    (tmp_path / "mine.py").write_text(KINDS[kind].format(line), encoding="utf-8")
    ended, text, *_ = verify_here(tmp_path / "mine.py")
    assert ended == WRONG
    assert re.search(said, text.splitlines()[0]), text
    assert not any(word in text for word in MISMATCH), text


FOR_EVER = "while True: __import__('time').sleep(0.01)"


@pytest.mark.parametrize(("kind", "line", "said"), [
    ("attention", "import os; os._exit(3)", "it ended its own process, with exit code 3"),
    ("decoder", FOR_EVER, r"it did not end within \d+ s \(line \d+ in "),
])  # fmt: skip
def test_what_only_a_separate_process_survives(kind, line, said, tmp_path):
    (tmp_path / "mine.py").write_text(KINDS[kind].format(line), encoding="utf-8")
    for seconds in (2.0, 8.0, 32.0, 128.0) if line == FOR_EVER else (600.0,):  # to get as far as that line
        ended, text, *_ = verify(f"{tmp_path / 'mine.py'}:it", seconds=seconds)
        assert ended == BROKEN
        if re.fullmatch(said + ".*", text):
            return
    pytest.fail(text)


def test_arguments_under_verify(tmp_path):
    for text in ("def it(q):\n    return q\n", "class it:\n    def update(self):\n        pass\n"):
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
        assert "cannot be called with" in verify_here(tmp_path / "mine.py").text
