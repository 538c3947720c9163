"""Attention functions: right ones in every layout and dtype, wrong ones are named, bad ones refused with the reason."""

import numpy as np
import pytest

from kvsim import testing
from kvsim.errors import UsageError
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.feeds.attention import expected_output
from kvsim.testing.independent.attention import LoopAttention
from kvsim.testing.independent.rounding import exact, rounding
from kvsim.testing.subject.attention import Inputs, Setting, attend
from kvsim.testing.subject.layouts import read_layout
from kvsim.testing.verdict.readout import read_heads, read_out
from kvsim.testing.verdict.text import chunks_of
from tests.marks import case

DTYPES = ("float64", "float32", "float16", "bfloat16")
WINDOWED = {id for id in BANK if id.startswith("window")}


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def mine(q, k, v, window=None, shift=None, spread=np.repeat):
    """[B, T, H, D]."""
    t, s, groups = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = (np.repeat(x, groups, 2) if spread is np.repeat else np.tile(x, (1, 1, groups, 1)) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(np.asarray(q.shape[-1], q.dtype))
    far = s - t if shift is None else shift
    mask = np.tril(np.ones((t, s), bool), far)
    if window is not None:
        mask &= ~np.tril(np.ones((t, s), bool), far - window)
    return np.einsum("bhts,bshd->bthd", softmax(np.where(mask, scores, np.asarray(-np.inf, q.dtype))), v)


def in_layout(text, function=mine):
    """`mine`, for somebody with another layout."""
    layout = read_layout(text)

    def call(q, k, v, **words):
        taken = []
        for x in (q, k, v):
            h = 4 if x is q else 2
            sizes = dict(zip(layout.letters[: x.ndim], x.shape, strict=False))
            b, t = (x.shape[0], x.shape[1]) if layout.joined else (sizes.get("b", 1), sizes["t"])
            taken.append(layout.take(x, (b, t, h, 8)))
        return layout.put(function(*taken, **words))

    return call


def numpy_dtype(name):
    """NumPy's own, or that of ml_dtypes."""
    return np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if name == "bfloat16" else name)


def in_dtype(name, function=mine):
    """`function` for arrays that come and go in a dtype; NumPy's einsum has no bfloat16."""
    if name != "bfloat16":
        return function
    return lambda q, k, v, **words: function(
        *(x.astype(np.float32) for x in (q, k, v)), **words
    ).astype(q.dtype)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["b t h d", "b h t d", "t h d", "h t d", "b t (h d)"])
@pytest.mark.parametrize("window", [None, 1, 4])
def test_right_code_is_accepted(dtype, layout, window):
    kind, came = numpy_dtype(dtype), set()

    def array(x):
        return x.astype(kind)

    def function(q, k, v, **words):
        came.add(q.dtype)
        return in_layout(layout, in_dtype(dtype))(q, k, v, **words)

    testing.assert_attention(function, layout, heads=4, kv_heads=2, dtype=dtype, array=array, window=window, cases=3)
    assert came == {kind}


@pytest.mark.dev
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_torchs_own(dtype, kv_heads):
    import torch

    def sdpa(q, k, v):
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(k.shape[-2] - q.shape[-2])
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    testing.assert_attention(
        sdpa, "b h t d", kv_heads=kv_heads, dtype=dtype,
        array=lambda x: torch.from_numpy(x).to(getattr(torch, dtype)),
    )  # fmt: skip

    def top_left(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    with pytest.raises(OracleError, match=r"diagnosis: \[mask_top_left\]"):
        testing.assert_attention(
            top_left, "b h t d", kv_heads=kv_heads, dtype=dtype,
            array=lambda x: torch.from_numpy(x).to(getattr(torch, dtype)),
        )  # fmt: skip


READINGS = [(m, cls) for m in BANK.values() for cls in m.attention_variants()]
FIRST = [m.attention_variants()[0] for m in BANK.values() if m.attention_variants()]


def in_every_run(reading, dtype):
    """In float64 every reading; a mistake's first one in bfloat16 too, and in one of the two between, in turns."""
    if reading not in FIRST:
        return dtype == "float64"
    return dtype in ("float64", "bfloat16", ("float32", "float16")[FIRST.index(reading) % 2])


# Every reading in the finest and the coarsest dtype, a mistake's first one in the others.
CASES = [
    case(m, cls, dtype, id=f"{m.id}-{cls.__name__}-{dtype}", dev=not in_every_run(cls, dtype))
    for m, cls in READINGS for dtype in DTYPES
    if dtype in ("float64", "bfloat16") or cls in FIRST
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "reading", "dtype"), CASES)
def test_every_mistake_of_attention_alone(mistake, reading, dtype):
    """Every step's result kept in the dtype. In float64, in a call without a window, too."""

    def wrong(q, k, v, window=None):
        one = reading.attention_only(None)
        one.round = rounding(dtype)
        return attend(one, Inputs(*(x.astype(np.float64) for x in (q, k, v))), window).astype(numpy_dtype(dtype))

    if mistake.id == "scale_by_d_model":  # of a model that is as wide as its heads together
        assert reading.attention_only(None).width is None
    with pytest.raises(OracleError) as caught:
        testing.assert_attention(wrong, kv_heads=2, dtype=dtype, window=4)
    assert caught.value.facts["diagnosis"] == [mistake.id]
    if mistake.id not in WINDOWED and dtype == "float64":
        with pytest.raises(OracleError) as caught:
            testing.assert_attention(wrong, kv_heads=2, dtype=dtype)
        assert mistake.id in caught.value.facts["diagnosis"]


def test_the_independent_attention_is_the_transformers():
    generator = np.random.default_rng(5)
    for t, s, h, g, window in ((3, 7, 4, 2, None), (5, 5, 6, 1, 2), (1, 9, 3, 3, 4)):
        inputs = Inputs(*(generator.normal(size=(2, n, heads, 10)) for n, heads in ((t, h), (s, g), (s, g))))
        expected = expected_output(inputs, window)
        assert np.abs(attend(LoopAttention(), inputs, window) - expected).max() <= 1e-14 * np.abs(expected).max()


def test_a_black_box_is_read_out():
    generator = np.random.default_rng(6)
    layout = read_layout("b t h d")
    inputs = Inputs(*(generator.normal(size=(2, n, heads, 4)) for n, heads in ((3, 6), (9, 3), (9, 3))))
    setting = Setting(mine, layout, layout, 6, 3, 4, None, 2, "float64", exact, 0)
    seen = read_out(setting, inputs)
    assert seen.shape == (2, 6, 3, 9)
    assert seen.sum(axis=-1) == pytest.approx(np.ones((2, 6, 3)))
    assert ((seen > 0) == np.tril(np.ones((3, 9), bool), 6)).all()
    keys = np.repeat(inputs.k, 2, axis=2)
    scores = np.einsum("bthd,bshd->bhts", inputs.q, keys) / 2
    assert seen == pytest.approx(softmax(np.where(np.tril(np.ones((3, 9), bool), 6), scores, -np.inf)))
    assert read_heads(setting, inputs) == [0, 0, 1, 1, 2, 2]


def test_the_failure_text(monkeypatch):
    def error_of():
        with pytest.raises(OracleError) as caught:
            testing.assert_attention(lambda q, k, v: mine(q, k, v, shift=0), kv_heads=2, dtype="float32")
        return str(caught.value)

    monkeypatch.setenv("KVSIM_LANG", "en")
    text = error_of()
    assert "2 x the reference's own float32 error" in text
    assert (
        "    query 共  #  ?  ?  ?  ?  .  .\n    query 和  #  #  ?  ?  ?  ?  .\n    query 国  #  #  #  ?  ?  ?  ?"
        in text
    )
    assert "query head -> kv head: yours [0, 0, 1, 1]  reference [0, 0, 1, 1];  rows sum to 1: yes" in text
    assert "diagnosis: [mask_top_left] the causal mask is not shifted by the cache length" in text
    assert "smallest : feed [1, 1] (queries: 1, keys: 2)" in text
    assert "--heads 4 --kv-heads 2 --queries 3 --keys 7 --seed 0" in text
    monkeypatch.setenv("KVSIM_LANG", "zh")
    text = error_of()
    assert "诊断：[mask_top_left] 因果掩码没有按缓存长度平移" in text
    assert "查询 共" in text


def test_the_feed_of_a_size():
    assert [chunks_of(*sizes) for sizes in ((3, 3), (1, 3), (2, 3))] == [[3], [2, 1], [1, 2]]


def test_the_key_value_heads_are_shown():
    with pytest.raises(OracleError, match=r"yours \[0, 1, 0, 1\]  reference \[0, 0, 1, 1\]"):
        testing.assert_attention(lambda q, k, v: mine(q, k, v, spread=np.tile), kv_heads=2)


def error_of(function, **more):
    with pytest.raises(OracleError) as caught:
        testing.assert_attention(function, **more)
    return str(caught.value).splitlines()[0]


def test_a_function_that_misbehaves():
    assert "cannot be called with 3 arguments: " in error_of(lambda q: q)
    assert "cannot be called with 3 arguments, window=: " in error_of(lambda q, k, v: q, window=4)
    assert "raised TypeError: " in error_of(lambda q, k, v: q + None)
    assert "shape [2, 3], expected [2, 3, 4, 8] (3 queries, 7 keys)" in error_of(lambda q, k, v: q[:, :, 0, 0])
    assert "cannot be read as an array" in error_of(lambda q, k, v: None)
    assert "changed its input k" in error_of(lambda q, k, v: (mine(q, k, v), k.fill(0))[0])
    assert "expected floating point numbers" in error_of(lambda q, k, v: mine(q, k, v).astype(str))
    with pytest.raises(OracleError, match="holds nan") as caught:
        testing.assert_attention(lambda q, k, v: mine(q, k, v) * np.nan)
    assert "not linear" not in str(caught.value)  # NaN shows neither
    assert "who sees whom" not in str(caught.value)


@pytest.mark.parametrize("layout", ["b t h", "b t h d d", "b (t h) d", "x t h d", "", 3])
def test_a_layout_that_does_not_parse(layout):
    with pytest.raises(UsageError, match="a layout has the letters"):
        testing.assert_attention(mine, layout)


def test_sizes_that_make_no_sense():
    with pytest.raises(UsageError, match="heads must be a multiple"):
        testing.assert_attention(mine, heads=4, kv_heads=3)
    with pytest.raises(UsageError, match="unknown number format 'int7'"):
        testing.assert_attention(mine, dtype="int7")


@pytest.mark.parametrize(
    "case", testing.cases(rope=[True, False], kv_heads=[1, 2, 4], window=[None, 4], dtype=["float32"]), ids=str
)
def test_catalogue(case):
    case.check(mine)


def test_the_catalogue_is_every_combination():
    found = testing.cases(rope=[True, False], heads=[4, 6], kv_heads=[1, 2, 3, 4], window=[None, 4])
    assert len(found) == len({str(case) for case in found}) == 2 * 2 * (3 + 3)
    with pytest.raises(OracleError, match="mask_top_left"):
        found[0].check(lambda q, k, v: mine(q, k, v, shift=0))


def test_more_work_than_a_check_does_is_refused_before_any_call():
    with pytest.raises(UsageError, match=r"these sizes take as long as .* up to 17179869184 are computed"):
        testing.assert_attention(pytest.fail, heads=1, batch=1, d_head=512, show=(8000, 8000))


def test_of_many_keys_no_picture_is_drawn():
    """Each key would be read out by a call of its own."""
    calls = []

    def counted(q, k, v):
        calls.append(k.shape[1])
        return mine(q, k, v, shift=0)

    with pytest.raises(OracleError) as caught:
        testing.assert_attention(counted, kv_heads=2, show=(1, 1025))
    assert "who sees whom" not in str(caught.value)
    assert "mask_top_left" in str(caught.value)
    assert calls.count(1025) <= 3
