"""The catalogue of devices: every entry whole, figures in their units, names found or refused."""

import json

import pytest

from kvsim.costs.public.devices import FILE, find_device, read_devices
from kvsim.errors import UsageError

DTYPES = {"float64", "float32", "tf32", "float16", "bfloat16", "fp8", "int8", "int4"}
ENTRIES = json.loads(FILE.read_text(encoding="utf-8"))


def test_enough_devices():
    assert len(read_devices()) >= 22


@pytest.mark.parametrize("name", read_devices())
def test_every_entry_is_whole(name):
    entry, device = ENTRIES[name], read_devices()[name]
    assert set(entry) <= {
        "nominal_gb", "nominal_gib", "usable_bytes", "bandwidth", "peaks", "source", "note", "unconfirmed"
    }  # fmt: skip
    assert len({"nominal_gb", "nominal_gib"} & set(entry)) == 1
    assert device.name == name == "-".join(name.lower().split())
    assert device.source.startswith("https://")
    for figure in (device.nominal_bytes, device.bandwidth, *device.peaks.values()):
        assert type(figure) is int
    assert set(device.unconfirmed) <= set(device.peaks) <= DTYPES
    # Wrong by a thousand, or by a billion, is what data files get wrong.
    assert 10**10 <= device.nominal_bytes < 10**12
    assert 5 * 10**10 <= device.bandwidth <= 10**13
    for dtype, peak in device.peaks.items():
        assert 10**11 <= peak < 10**16, dtype
    if device.usable_bytes is not None:
        assert "usable" in device.note
        assert 0.94 * device.nominal_bytes < device.usable_bytes < 1.074 * device.nominal_bytes  # at most that many GiB


@pytest.mark.parametrize("name", read_devices())
def test_narrower_numbers_are_never_slower(name):
    """Dense rates of one device: float64 ≤ float32 ≤ tf32 ≤ float16 = bfloat16 ≤ fp8, int8 ≤ int4."""
    peaks = read_devices()[name].peaks
    for order in (("float64", "float32", "tf32", "float16", "fp8"), ("float16", "int8", "int4")):
        rates = [peaks[dtype] for dtype in order if dtype in peaks]
        assert rates == sorted(rates)
    if {"float16", "bfloat16"} <= set(peaks):
        assert peaks["float16"] == peaks["bfloat16"]


@pytest.mark.parametrize(
    ("name", "nominal", "bandwidth", "dtype", "peak"),
    [
        ("t4", 16 * 10**9, 320 * 10**9, "float16", 65 * 10**12),
        ("a10", 24 * 10**9, 600 * 10**9, "bfloat16", 125 * 10**12),
        ("a100-80gb", 80 * 10**9, 2_039 * 10**9, "bfloat16", 312 * 10**12),
        ("h100-80gb", 80 * 10**9, 3_350 * 10**9, "fp8", 1_979 * 10**12),
        ("h200", 141 * 10**9, 4_800 * 10**9, "int8", 1_979 * 10**12),
        ("tpu-v4", 32 * 2**30, 1_200 * 10**9, "bfloat16", 275 * 10**12),
        ("cpu", 64 * 10**9, 89_600_000_000, "float32", 8 * 4 * 10**9 * 2 * 8 * 2),
    ],
)
def test_known_figures(name, nominal, bandwidth, dtype, peak):
    device = find_device(name)
    assert (device.nominal_bytes, device.bandwidth, device.peak(dtype)) == (nominal, bandwidth, peak)


@pytest.mark.parametrize(
    ("name", "found"),
    [("RTX 4090", "rtx-4090"), ("rtx_4090", "rtx-4090"), (" A10 ", "a10"), ("H100", "h100-80gb")],
)
def test_names_are_found(name, found):
    assert find_device(name).name == found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a100", "near names are a100-40gb, a100-80gb"),
        ("v100", "near names are v100-16gb, v100-32gb"),
        ("a1O", "near names are .*a10"),
        ("rtx4090", "near names are rtx-4090"),
        ("abacus", "no device 'abacus'"),
        ("", "no device '' in the catalogue: use one of t4, a10,"),
        ("x" * 9_000, "no device"),
    ],
)
def test_unknown_devices_are_refused(name, said):
    with pytest.raises(UsageError, match=said):
        find_device(name)


def test_a_dtype_that_a_device_lacks():
    with pytest.raises(UsageError, match="the device t4 has no peak for 'bfloat16': it has float64, float32, "):
        find_device("t4").peak("bfloat16")
