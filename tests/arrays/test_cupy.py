"""The cupy backend: errors that need no CuPy, and CuPy's own code on the host stand-in (mark `cupy`).

python3 -m venv cupy && cupy/bin/pip install -e ".[test]" array-api-compat cupy-rocm-7-0==14.2.0
tests/cupy_on_host/build.sh cupy/bin/python built && . built/env.sh && cupy/bin/python -m pytest -m cupy
"""

import contextlib
import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from kvsim.arrays import cupy_arrays, get_backend
from kvsim.cli import run as command
from kvsim.doctor.against_numpy import ALLOWED, IDS, compare, make, source_of
from kvsim.errors import BackendError, UsageError
from kvsim.generation.sampling import Sampler
from tests.arrays.runs import ZOO

on_host = pytest.mark.cupy


# Missing parts of an installation: a one-line error each


def fake_cupy(count=1, error=None, compiler=None, product=None):
    """The part of CuPy that opening the backend uses, with one piece broken."""

    def devices():
        if error is not None:
            raise error
        return count

    class Small(np.ndarray):
        def get(self):
            return np.asarray(self)

    def arange(stop):
        if compiler is not None:
            raise compiler
        return np.arange(stop).view(Small)

    def load():
        if isinstance(product, Exception):
            raise product
        return product or (lambda a, b: a @ b)

    runtime = SimpleNamespace(getDeviceCount=devices)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), arange=arange), load


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"error": RuntimeError("cudaErrorInsufficientDriver: driver is insufficient")}, "finds no GPU driver"),
        ({"error": RuntimeError("cudaErrorNoDevice: no CUDA-capable device")}, "finds no GPU: use --backend numpy"),
        ({"count": 0}, "finds no GPU: use --backend numpy"),
        ({"compiler": RuntimeError("CuPy failed to load libnvrtc.so.12")}, "cannot compile .*NVRTC.*libnvrtc"),
        ({"product": ImportError("libcublas.so.12: cannot open")}, r"cannot multiply \(cuBLAS\).*libcublas"),
        ({"product": lambda a, b: a @ b + 1.0}, "multiplies wrongly"),
    ],
    ids=["driver", "device", "none", "compiler", "cublas", "wrong"],
)
def test_the_error_names_what_is_missing(broken, message):
    cupy, load = fake_cupy(**broken)

    def opened():
        cupy_arrays.count_devices(cupy)
        cupy_arrays.try_product(load, cupy)

    with pytest.raises(BackendError, match=message) as caught:
        opened()
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_no_cupy_and_no_array_api_compat(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match=r'needs CuPy: pip install "\.\[gpu\]"'):
        get_backend("cupy")
    assert command(["trace", "中", "--backend", "cupy", "--lang", "en"]) == 3
    assert command(["doctor", "--gpu", "--lang", "en"]) == 3
    assert capsys.readouterr().err.count("\n") == 2
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    with pytest.raises(BackendError, match="cupy needs array-api-compat"):
        get_backend("cupy")


def test_device_names():
    assert [cupy_arrays.find_device(name, 8) for name in (None, "cuda", "cuda:0", "cuda:7")] == [0, 0, 0, 7]
    with pytest.raises(UsageError, match="there is no device 'cuda:7': this machine has 1, from cuda:0"):
        cupy_arrays.find_device("cuda:7", 1)
    for name in ("gpu", "cuda:", "cuda:-1", "cuda:x", "cpu"):
        with pytest.raises(UsageError, match="unknown device"):
            cupy_arrays.find_device(name, 1)


def test_the_out_of_memory_error_gives_bytes():
    pool = SimpleNamespace(used_bytes=lambda: 2_000, free_bytes=lambda: 30)
    runtime = SimpleNamespace(memGetInfo=lambda: (400, 5_000))
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime), get_default_memory_pool=lambda: pool)
    error = MemoryError("Out of memory allocating 1,024 bytes (allocated so far: 2,000 bytes).")
    message = str(cupy_arrays.explain_memory(cupy, error))
    assert "asked for 1,024 B, held 2,000 B, free 430 B of 5,000 B" in message


# CuPy's own code on the host


@on_host
@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", ZOO)
def test_logits_ids_and_ledger_are_numpys(name, dtype):
    compared = compare(name, ZOO[name], "cupy", dtype)
    assert compared.agrees, compared


@contextlib.contextmanager
def refusing_copies(monkeypatch):
    """Fails when a product copies a stacked operand, in kvsim's call or inside cupy.matmul."""
    import cupy

    from kvsim.arrays import cupy_products

    def refuse(*_):
        raise AssertionError("a step copied an operand of a product")

    def flat(a, b, matmul=cupy.matmul):
        assert max(a.ndim, b.ndim) == 2, "cupy.matmul copies stacked operands"
        return matmul(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(cupy_products.cupy, "ascontiguousarray", refuse)
        patch.setattr(cupy_products.cupy, "matmul", flat)
        yield


@on_host
@pytest.mark.parametrize("name", ZOO)
def test_a_step_synchronises_once_and_copies_no_operand(name, monkeypatch):
    """One synchronisation and one copy to the host, for the chosen id. Each layer of experts adds one of both."""
    from tests.cupy_on_host.counts import read_counts

    config = ZOO[name]
    model = make(config, "cupy", "float32")
    cache = model.new_cache("static:12")
    model(IDS[:7], cache, **source_of(config))
    mixtures = sum(kind.experts is not None for kind in config.layers)
    for i in (7, 8):
        before = read_counts()
        with refusing_copies(monkeypatch):
            logits = model(IDS[i : i + 1], cache, logits="last")
        within = read_counts() - before
        assert (within.synchronisations, within.to_host) == (mixtures, mixtures)
        Sampler().choose(model.ops, logits[0, :], i)
        spent = read_counts() - before
        assert (spent.synchronisations, spent.to_host) == (mixtures + 1, mixtures + 1)


@on_host
def test_allocating_more_than_the_device_has():
    model = make(ZOO["llama"], "cupy", "float32")
    with pytest.raises(BackendError, match=r"out of device memory: asked for [\d,]+ B, held [\d,]+ B, free"):
        model.new_cache("static:100000000000")
    assert model(IDS).shape == (12, 53)


SHAPES = [
    ((3, 2, 4, 8), (3, 1, 8, 5)),
    ((3, 4, 5), (3, 5, 6)),
    ((3, 4, 5), (1, 5, 6)),
    ((1, 4, 5), (3, 5, 6)),
    ((2, 3, 4, 5), (5, 6)),
    ((2, 1, 4, 5), (1, 3, 5, 6)),
    ((1, 7, 1, 5), (1, 1, 5, 9)),
    ((3, 2, 1, 1), (3, 1, 1, 8)),
    ((2, 0, 5), (2, 5, 3)),
]


def layouts(x):
    """x unchanged, as a transposed view, as a slice of a longer array, and as a strided view."""
    import cupy

    yield x
    yield cupy.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    longer = cupy.zeros((*x.shape[:-2], x.shape[-2] + 3, x.shape[-1]), x.dtype)
    longer[..., : x.shape[-2], :] = x
    yield longer[..., : x.shape[-2], :]
    gaps = cupy.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    gaps[..., ::2] = x
    yield gaps[..., ::2]


@on_host
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_batched_product_in_every_layout(shapes, dtype):
    import cupy

    from kvsim.arrays.cupy_products import matmul

    generator = np.random.default_rng(0)
    a, b = (cupy.asarray(generator.normal(size=shape).astype(dtype)) for shape in shapes)
    expected = np.matmul(a.get().astype("f8"), b.get().astype("f8"))
    for left in layouts(a):
        for right in layouts(b):
            got = matmul(left, right)
            assert got.shape == expected.shape
            assert got.dtype == a.dtype
            assert np.allclose(got.get(), expected, rtol=0, atol=20 * np.finfo(dtype).eps)


def host_array(pointer, count):
    """`count` float16 numbers at an address; the stand-in's device memory is host memory."""
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint16)), (count,)).view(np.float16)


@on_host
def test_float16_calls_cublas_as_documented(monkeypatch):
    """CuPy's ROCm build has no batched float16 product, so a Python model of cublasGemmStridedBatchedEx, written from
    the cuBLAS manual, executes the call."""
    import cupy

    from kvsim.arrays import cupy_products

    calls = []

    def gemm(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, step_a, b, b_type, ldb, step_b, beta, c, c_type, ldc,
             step_c, count, compute, algorithm):  # fmt: skip
        half = cupy.cuda.runtime.CUDA_R_16F
        assert (a_type, b_type, c_type, compute) == (half, half, half, cupy_products.cublas.CUBLAS_COMPUTE_32F)
        one = ctypes.cast(alpha, ctypes.POINTER(ctypes.c_float))[0]
        zero = ctypes.cast(beta, ctypes.POINTER(ctypes.c_float))[0]
        assert (one, zero) == (1.0, 0.0)
        for i in range(count):

            def column_major(pointer, step, operation, rows, columns, leading, i=i):
                rows, columns = (rows, columns) if operation == 0 else (columns, rows)
                assert leading >= max(1, rows)
                flat = host_array(pointer + 2 * i * step, leading * (columns - 1) + rows)
                x = np.lib.stride_tricks.as_strided(flat, (rows, columns), (2, 2 * leading)).astype("f4")
                return x if operation == 0 else x.T

            product = column_major(a, step_a, op_a, m, k, lda) @ column_major(b, step_b, op_b, k, n, ldb)
            host_array(c + 2 * i * step_c, ldc * n).reshape(n, ldc)[:, :m] = product.T
        calls.append(count)

    runtime = SimpleNamespace(is_hip=False, CUDA_R_16F=cupy.cuda.runtime.CUDA_R_16F)
    names = ("matmul", "empty", "ascontiguousarray", "broadcast_to")
    cuda = SimpleNamespace(runtime=runtime, device=cupy.cuda.device)
    mine = SimpleNamespace(cuda=cuda, **{name: getattr(cupy, name) for name in names})
    blas = SimpleNamespace(gemmStridedBatchedEx=gemm, **{
        name: getattr(cupy_products.cublas, name) for name in dir(cupy_products.cublas) if name.startswith("CUBLAS_")
    })  # fmt: skip
    monkeypatch.setattr(cupy_products, "cupy", mine)
    monkeypatch.setattr(cupy_products, "cublas", blas)
    generator = np.random.default_rng(0)
    for shapes in SHAPES[:-1]:
        a, b = (cupy.asarray(generator.normal(size=shape).astype("f2")) for shape in shapes)
        expected = np.matmul(a.get().astype("f4"), b.get().astype("f4"))
        for left in layouts(a):
            for right in layouts(b):
                got = cupy_products.matmul(left, right).get()
                assert np.allclose(got, expected, rtol=2e-3, atol=2e-3)
    assert len(calls) == 16 * len(SHAPES[:-1])


@on_host
def test_the_report_for_a_machine_with_a_gpu(capsys, monkeypatch):
    from kvsim.doctor import against_numpy as comparison

    few = {name: ZOO[name] for name in ("gpt2", "llama")}
    monkeypatch.setattr(comparison, "read_small_models", lambda: few)
    assert command(["doctor", "--gpu", "--lang", "en"]) == 0
    output = capsys.readouterr().out
    assert "host stand-in (cuda:0)" in output
    assert "all 4 agree" in output
    assert command(["doctor", "--gpu", "--device", "cuda:7", "--lang", "en"]) == 2
    monkeypatch.setitem(comparison.ALLOWED, "float32", 1e-12)
    assert command(["doctor", "--gpu", "--lang", "en"]) == 1
    assert "2 agree, 2 do not" in capsys.readouterr().out


@on_host
def test_trace_on_cupy(capsys):
    assert command(["trace", "中华人民", "--backend", "cupy", "--lang", "zh"]) == 0
    assert "84 / 21" in capsys.readouterr().out
