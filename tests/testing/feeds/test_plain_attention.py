"""`kvsim.testing.attention` on the 93 cases of the ONNX operator, and on what they leave out."""

import json
from pathlib import Path

import numpy as np
import pytest

from kvsim.errors import UsageError
from kvsim.testing import attention

FOLDER = Path(__file__).parent.parent.parent / "fixtures" / "onnx"
CASES = json.loads((FOLDER / "attention.json").read_text())["cases"]
ARRAYS = np.load(FOLDER / "attention.npz", allow_pickle=False)
# (relative, absolute), by the type of Q; bfloat16 is stored as bits and computed in float32.
ALLOWED = {"float64": (1e-9, 1e-11), "float32": (1e-5, 2e-6), "float16": (2e-3, 2e-3), "bfloat16": (2**-6, 2**-7)}
TYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
INPUTS = {"attn_mask": "mask", "past_key": "past_key", "past_value": "past_value",
          "nonpad_kv_seqlen": "nonpad_kv_seqlen"}  # fmt: skip
OUTPUTS = {"Y": "output", "present_key": "keys", "present_value": "values", "qk_matmul_output": "scores"}


def array(entry):
    stored = ARRAYS[entry["key"]]
    if entry["dtype"] == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored


def options(case):
    """The operator's inputs and attributes as keyword arguments."""
    given = {INPUTS[name]: array(entry) for name, entry in case["inputs"].items() if name in INPUTS}
    attributes = case["attributes"]
    if attributes.get("is_causal"):
        given["causal"] = True
    if "scale" in attributes:
        given["scale"] = float(attributes["scale"])
    if attributes.get("softcap", 0) > 0:
        given["softcap"] = float(attributes["softcap"])
    for name in ("q_num_heads", "kv_num_heads"):
        if name in attributes:
            given[name] = attributes[name]
    for side in ("left", "right"):
        if attributes.get(f"{side}_window_size", -1) >= 0:
            given[f"{side}_window"] = attributes[f"{side}_window_size"]
    given["qk_mode"] = attributes.get("qk_matmul_output_mode", 0)
    if "softmax_precision" in attributes:
        given["softmax_dtype"] = TYPES[attributes["softmax_precision"]]
    return given


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_onnx(case):
    result = attention(*(array(case["inputs"][name]) for name in "QKV"), **options(case))
    relative, absolute = ALLOWED[case["inputs"]["Q"]["dtype"]]
    for name, entry in case["outputs"].items():
        expected, got = array(entry).astype(np.float64), getattr(result, OUTPUTS[name]).astype(np.float64)
        assert got.shape == expected.shape
        finite = np.isfinite(expected)
        assert np.array_equal(got[~finite], expected[~finite])
        assert (np.abs(got[finite] - expected[finite]) <= absolute + relative * np.abs(expected[finite])).all()


def test_all_cases_are_there():
    assert len(CASES) == 93


def test_the_causal_mask_is_shifted_by_the_past():
    q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 5, 4))
    whole = attention(q, k, v, causal=True).output
    split = attention(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], causal=True, past_key=k[:, :, :3], past_value=v[:, :, :3])
    assert np.abs(split.output - whole[:, :, 3:]).max() < 1e-15


def test_a_query_that_sees_nothing_gives_zero():
    q, k, v = np.ones((3, 1, 1, 2, 4))
    mask = np.array([[False, False], [True, False]])
    result = attention(q, k, v, mask=mask, qk_mode=3)
    assert result.output[0, 0].tolist() == [[0] * 4, [1] * 4]
    assert result.scores[0, 0].tolist() == [[0, 0], [1, 0]]


def test_v_of_ones_and_zeros_reads_out_the_probabilities():
    q, k = np.random.default_rng(1).normal(size=(2, 1, 2, 3, 4))
    identity = np.broadcast_to(np.eye(3), (1, 2, 3, 3))
    result = attention(q, k, identity, causal=True, qk_mode=3)
    assert np.abs(result.output - result.scores).max() < 1e-15


@pytest.mark.parametrize(
    "shapes", [((1, 3, 2, 4), (1, 2, 2, 4)), ((1, 2, 2, 4), (1, 2, 2, 5)), ((2, 1, 2, 4), (1, 1, 2, 4))]
)
def test_shapes_that_do_not_go_together(shapes):
    q, k = (np.ones(shape) for shape in shapes)
    with pytest.raises(UsageError, match="do not go together"):
        attention(q, k, k)
    with pytest.raises(UsageError, match="with the number of its heads"):
        attention(np.ones((1, 2, 8)), k, k)
