"""Numbers in 4 or 8 bits: bytes and scales against plain Python, and the bound on what rounding takes away."""

import math
import warnings
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.arrays import get_backend
from kvsim.caches.quantised.codes import Code, Groups, dequantise, quantise
from kvsim.model import make_ops
from tests.caches.quantised.scalar_quantiser import E4M3, TOPS, quantise_rows

CODES = [Code("int8"), Code("int4"), Code("int8", zero=True), Code("int4", zero=True), Code("fp8")]
NAMES = ["int8", "int4", "int8 zero", "int4 zero", "fp8"]
every_code = pytest.mark.parametrize("code", CODES, ids=NAMES)


@cache
def ops_of(dtype="float64", backend="numpy"):
    return make_ops(get_backend(backend), dtype)


def needs(code):
    if code.name == "fp8":
        pytest.importorskip("ml_dtypes")


def as_bytes(payload):
    return np.ascontiguousarray(payload).view(np.uint8)


def there_and_back(code, x, dtype="float64", groups=None):
    """Packed, and read back, of one group unless said."""
    x = np.asarray(x, dtype)
    if x.ndim == 1:
        x = x[None, None, :]
    groups = groups or Groups(x.shape[1], x.shape[2])
    packed = quantise(ops_of(dtype), code, groups, x)
    return packed, dequantise(ops_of(dtype), code, groups, packed)


def rows(seed, shape, dtype="float64"):
    """Rows of every kind: of all sizes, constant, zero, negative, ties, far from zero; in float16 all finite."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 4, size=(shape[0], 1, shape[2]))
    kinds = rng.integers(0, 8, size=(shape[0], 1, shape[2])) * np.ones(shape)
    x = np.where(kinds == 1, 0.0, x)
    x = np.where(kinds == 2, rng.integers(-14, 15, size=shape) / 2, x)  # ties, wherever the largest is 7
    x = np.where(kinds == 3, -np.abs(x) - 900.0, x)
    x = np.where(kinds == 4, 3.3, x)
    if dtype != "float16":
        x = np.where(kinds == 5, x * 1e7, x)
    return np.clip(x, -60000, 60000).astype(dtype) if dtype == "float16" else x.astype(dtype)


@every_code
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(4, 1), (1, 6), (1, 3), (2, 2), (1, 1)]),
    st.sampled_from(["float64", "float32", "float16"]),
)
def test_bytes_scales_and_numbers_are_plain_pythons(code, seed, sizes, dtype):
    needs(code)
    x = rows(seed, (2, 8, 6), dtype)
    packed, read = there_and_back(code, x, dtype, Groups(*sizes))
    stored, scales, zeros, wanted = quantise_rows(code.name, code.zero, x, *sizes)
    assert packed.payload.dtype == {"int4": "uint8", "fp8": "float8_e4m3fn"}.get(
        code.name, "uint8" if code.zero else "int8"
    )
    assert np.array_equal(as_bytes(packed.payload), stored)
    assert packed.scale.dtype == np.float16
    assert np.array_equal(packed.scale, scales)
    assert (packed.zero is None) == (zeros is None)
    assert zeros is None or (packed.zero.dtype == np.float16 and np.array_equal(packed.zero, zeros))
    assert read.dtype == dtype
    assert np.array_equal(read, wanted.astype(dtype))


def allowed(code, x, scale, low):
    """The bound that the module's docstring states, for one number; float32's rounding comes on top."""
    floor = code.top * 2.0**-25
    if code.name == "fp8":
        return max(abs(x) * 2.0**-4, scale * 2.0**-10, floor)
    return max(scale / 2, floor) + (abs(low) * 2.0**-11 + 2.0**-25 if code.zero else 0.0)


def numbers(limit):
    return st.floats(-limit, limit, allow_subnormal=False)


@every_code
@given(st.data())
def test_rounding_takes_no_more_than_stated(code, data):
    needs(code)
    reach = 65504.0 if code.zero else 65504.0 * code.top
    limit = data.draw(st.sampled_from([1e-9, 1e-6, 1e-3, 1.0, 100.0, 60000.0, reach]))
    shift = data.draw(st.sampled_from([0.0, 0.0, limit / 2, -limit / 2]))
    xs = data.draw(st.lists(numbers(limit / 2), min_size=2, max_size=8).filter(lambda xs: len(xs) % 2 == 0))
    x = np.array(xs) + shift
    packed, read = there_and_back(code, x)
    scale, low = float(packed.scale[0, 0, 0]), float(x.min())
    for number, back in zip(x, read[0, 0], strict=True):
        assert abs(number - back) <= allowed(code, number, scale, low) + 2.0**-22 * np.abs(x).max()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("code", CODES[:4], ids=NAMES[:4])
def test_the_nearest_code_is_taken_and_ties_go_to_even(code, dtype):
    """Scale 1, so that codes are the numbers: 0.5, 1.5, 2.5 to 0, 2, 2."""
    base = 0 if code.zero else -code.top
    xs = [base, base + 0.5, base + 1.5, base + 2.5, base + 3.25, base + 3.75, code.top - 0.5, code.top]
    _, read = there_and_back(code, xs, dtype)
    even = [base + (0 if base % 2 == 0 else 1), base + (2 if base % 2 == 0 else 1), base + (2 if base % 2 == 0 else 3)]
    last = code.top - 1 if code.top % 2 else code.top
    assert read[0, 0].tolist() == [base, *even, base + 3, base + 4, last, code.top]


def test_floats_of_eight_bits_round_to_even_too():
    pytest.importorskip("ml_dtypes")
    middles = [(a + b) / 2 for a, b in pairwise(E4M3)] + [448.0]
    _, read = there_and_back(Code("fp8"), middles)
    wanted = [E4M3[i + i % 2] for i in range(len(E4M3) - 1)] + [448.0]
    assert read[0, 0].tolist() == wanted
    _, exact = there_and_back(Code("fp8"), [-x for x in E4M3])
    assert exact[0, 0].tolist() == [-x for x in E4M3]


def test_two_numbers_share_a_byte_the_even_one_low():
    """-7..7 are stored as 1..15."""
    packed, _ = there_and_back(Code("int4"), [7.0, -7.0, 0.0, 3.0])
    assert packed.payload[0, 0].tolist() == [15 + 16 * 1, 8 + 16 * 11]
    packed, _ = there_and_back(Code("int4", zero=True), [0.0, 15.0, 1.0, 2.0])
    assert packed.payload[0, 0].tolist() == [0 + 16 * 15, 1 + 16 * 2]


@every_code
def test_zeros_and_what_is_too_small_come_back_as_zeros(code):
    needs(code)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in ([0.0] * 4, [1e-12, -1e-12, 0.0, 1e-13], [1e-300, -1e-300, 0.0, 0.0]):
            packed, read = there_and_back(code, x)
            assert packed.scale.tolist() == [[[0.0]]]
            assert np.abs(read).max() == 0.0


@every_code
def test_a_constant_group(code):
    """The largest code, whose scale float16 rounds; with zero points no worse."""
    needs(code)
    for c in (3.3, -3.3, 1234.5, -1e-3):
        _, read = there_and_back(code, [c] * 4)
        assert np.abs(read - c).max() <= max(abs(c) * 2.0**-11, code.top * 2.0**-25)
        assert len(set(read.ravel().tolist())) == 1


@every_code
def test_what_is_beyond_the_largest_scale_saturates(code):
    """float16 ends at 65504; no infinity, and no NaN, is made of a finite number, however large."""
    needs(code)
    most = 65504.0 * code.top
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for huge in (most, most * 1.001, 1e30, 1e300, math.inf):
            packed, read = there_and_back(code, [huge, 0.0])
            assert packed.scale.tolist() == [[[65504.0]]]
            assert read[0, 0].tolist() == [most, 0.0]
            _, read = there_and_back(code, [-huge, 0.0])
            assert read[0, 0, 0] == (-65504.0 if code.zero else -most)
            assert abs(read[0, 0, 1]) <= (65504.0 / code.top * 0.51 if code.zero else 0.0)
        for largest in ([65504.0, -65504.0], [65504.0, -65504.0, 3.0, 60000.0]):  # of a float16 model
            _, read = there_and_back(code, largest, "float16")
            assert np.abs(read[0, 0, :2].astype(float) - largest[:2]).max() <= 65504.0 * 2.0**-9


@every_code
def test_a_nan_stays_in_its_group_and_is_not_hidden(code):
    needs(code)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = np.array([[[1.0, 2.0, math.nan, 4.0], [1.0, 2.0, 3.0, 4.0]]])
        _, read = there_and_back(code, x, groups=Groups(1, 4))
    assert np.isnan(read[0, 0]).all()
    assert np.isfinite(read[0, 1]).all()


@every_code
def test_bytes_do_not_depend_on_the_dtype_or_the_library(code):
    """Of numbers that every dtype has: one byte for byte result, from NumPy and from `exact`."""
    needs(code)
    x = rows(5, (2, 8, 6), "float16")
    kept = set()
    for backend in ("numpy", "exact"):
        for dtype in ("float16", "float32", "float64"):
            packed = quantise(ops_of(dtype, backend), code, Groups(2, 3), x.astype(dtype))
            kept.add(as_bytes(packed.payload).tobytes() + packed.scale.tobytes())
    assert len(kept) == 1


@pytest.mark.dev
@every_code
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_torch_has_the_same_bytes(code, dtype):
    import torch

    needs(code)
    ops = ops_of(dtype, "torch")
    kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
    x = torch.asarray(rows(6, (2, 8, 6), "float16").astype("float64")).to(kinds[dtype])
    packed = quantise(ops, code, Groups(2, 3), x)
    stored, scales, zeros, read = quantise_rows(code.name, code.zero, x.double().numpy(), 2, 3)
    assert np.array_equal(packed.payload.view(torch.uint8).numpy(), stored)
    assert np.array_equal(packed.scale.numpy(), scales)
    assert zeros is None or np.array_equal(packed.zero.numpy(), zeros)
    back = dequantise(ops, code, Groups(2, 3), packed)
    assert back.dtype == x.dtype
    assert torch.equal(back, torch.asarray(read).to(x.dtype))


def test_the_largest_codes():
    assert [code.top for code in CODES] == [127.0, 7.0, 255.0, 15.0, 448.0]
    assert [code.low for code in CODES] == [-127.0, -7.0, 0.0, 0.0, -448.0]
    assert {code.name: code.top for code in CODES if not code.zero} == TOPS
