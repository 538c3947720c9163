"""Untrusted checkpoints: read exactly, or refused with the reason."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kvsim
from kvsim.errors import FileError, UsageError
from tests.loading.folders import change_config, change_header, change_tensors, copy_demo
from tests.models import demo

NORM = "model__norm__weight"


@pytest.fixture
def folder(tmp_path):
    return copy_demo(tmp_path)


def refused(folder, kind=FileError, **options):
    """The message of the error that loading raises."""
    with pytest.raises(kind) as caught:
        kvsim.load(folder, **options)
    return str(caught.value)


def test_any_folder_is_read_by_the_same_loader(folder):
    model = kvsim.load(str(folder))
    assert (model.name, model.path) == ("model", folder)
    assert model.config == demo().config
    assert np.array_equal(model([5, 6]), demo()([5, 6]))


def test_float64_is_exact():
    """Weights are the stored float32 numbers, without further rounding."""
    stored = load_file(demo().path / "model.safetensors")
    model = demo("float64")
    assert model.weights.tokens.dtype == np.float64
    assert np.array_equal(model.weights.tokens, stored["model.embed_tokens.weight"].astype(np.float64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no model 'nowhere': use demo, the path"),
        ("", "no model ''"),
        (__file__, "is no model: that is a folder"),
    ],
)
def test_no_such_model(name, message):
    assert message in refused(name, UsageError)


def test_options_are_checked_before_files(folder):
    (folder / "config.json").unlink()
    assert "unknown dtype" in refused(folder, UsageError, dtype="int8")
    assert "unknown backend" in refused(folder, UsageError, backend="jax")
    assert "runs on the device cpu" in refused(folder, UsageError, device="cuda")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file(folder, file):
    (folder / file).unlink()
    assert f"{file}" in refused(folder)
    (folder / file).mkdir()
    assert f"{file}" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\ud800", '{"model_type": "llama"', "[" * 100_000])
def test_a_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "config.json" in refused(folder)


def test_a_config_without_its_architecture(folder):
    assert "config.json lacks the field model_type" in refused(change_config(folder, model_type=...))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "bert"}, "bert is an encoder: no autoregressive generation, so no KV cache"),
        ({"model_type": "martian"}, "model_type is 'martian', expected bart, bloom, cohere"),
        ({"vocab_size": "758"}, "vocab_size is '758', expected a positive integer"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"hidden_size": 10**30}, "hidden_size is 1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps is 1000"),
        ({"model_type": "x" * 5000}, "model_type is 'xxx"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None, expected a value, or the field left out"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0, expected a positive number"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish', expected gelu, "),
        ({"attention_bias": "yes"}, "attention_bias is 'yes', expected true or false"),
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3 key/value heads"),
        ({"head_dim": 15}, "is 15, expected an even number of rotary elements"),
        ({"rope_parameters": {"rope_type": "warp"}}, "rope_type is 'warp', expected default, linear"),
        ({"rope_parameters": {"rope_type": "linear"}}, "lacks the field factor"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}}, "numbers that its type can"),
        (
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 2.0,
                    "low_freq_factor": 2.0,
                    "high_freq_factor": 2.0,
                }
            },
            "numbers that its type can",
        ),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000, expected 1 .. 10000"),
        ({"rope_parameters": 3}, "rope_parameters is 3, expected an object"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ],
)
def test_an_invalid_config(folder, fields, message):
    assert message in refused(change_config(folder, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 700}, "model.embed_tokens.weight has shape [758, 64], its config.json asks for [700, 64]"),
        ({"hidden_size": 32}, "has shape [758, 64], its config.json asks for [758, 32]"),
        ({"num_key_value_heads": 4}, "self_attn.k_proj.weight has shape [32, 64], its config.json asks for [64, 64]"),
        ({"num_hidden_layers": 3}, "lacks the tensor model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, "holds 9 tensors that its config.json does not ask for, such as model.layers.1."),
        ({"tie_word_embeddings": False}, "lacks the tensor lm_head.weight"),
        ({"mlp_bias": True}, "lacks the tensor model.layers.0.mlp.gate_proj.bias"),
        ({"vocab_size": 10**12}, "its config.json asks for [1000000000000, 64]"),
    ],
)
def test_a_config_that_contradicts_the_tensors(folder, fields, message):
    assert message in refused(change_config(folder, **fields))


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_a_truncated_checkpoint(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "model.safetensors as safetensors" in refused(folder)


def test_a_header_that_claims_more_than_the_file_holds(folder):
    def grow(header):
        entry = header["model.norm.weight"]
        entry["shape"] = [10**9]
        entry["data_offsets"][1] = entry["data_offsets"][0] + 4 * 10**9

    assert "as safetensors" in refused(change_header(folder, grow))
    file = folder / "model.safetensors"
    file.write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}")
    assert "as safetensors" in refused(folder)


def test_a_pickle_is_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "weights must be in model.safetensors (convert others first; a pickle is never opened)" in refused(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_only_regular_files_are_read(folder, file):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert "there is no such file" in refused(folder)
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    assert "there is no such file" in refused(folder)


def test_a_json_file_beyond_the_limit_is_refused(folder, monkeypatch):
    monkeypatch.setattr("kvsim.loading.tokenizers.reading._LIMIT", 100)
    assert "has more than the 100 bytes allowed" in refused(folder)


def test_a_byte_order_mark_is_accepted(folder):
    file = folder / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    kvsim.load(folder)


def test_changing_the_file_does_not_change_loaded_weights(folder):
    model = kvsim.load(folder)
    before = model([5, 6])
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-4000:] = bytes(4000)
    (folder / "model.safetensors").write_bytes(raw)
    assert np.array_equal(model([5, 6]), before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_weights_are_refused(folder, bad):
    weight = np.ones(64, np.float32)
    weight[17] = bad
    change_tensors(folder, **{NORM: weight})
    assert "the tensor model.norm.weight holds NaN or infinite numbers in float32" in refused(folder)


def test_a_weight_too_large_for_float16(folder):
    change_tensors(folder, **{NORM: np.full(64, 1e5, np.float32)})
    kvsim.load(folder)
    assert "NaN or infinite numbers in float16" in refused(folder, dtype="float16")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones(63, np.float32), "has shape [63], its config.json asks for [64]"),
        (np.ones((64, 1), np.float32), "has shape [64, 1]"),
        (np.array(1.0, np.float32), "has shape []"),
        (np.ones(64, np.int32), "is I32, expected one of F64, F32, F16, BF16"),
        (None, "lacks the tensor model.norm.weight"),
    ],
)
def test_a_tensor_of_another_shape_or_dtype(folder, value, message):
    assert message in refused(change_tensors(folder, **{NORM: value}))


def test_an_unexpected_tensor(folder):
    change_tensors(folder, surprise=np.ones(3, np.float32))
    assert "holds 1 tensors that its config.json does not ask for, such as surprise" in refused(folder)


def test_tensors_that_are_no_weights_are_ignored(folder):
    change_tensors(folder, model__layers__0__self_attn__rotary_emb__inv_freq=np.ones(8, np.float32))
    head = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].copy()
    change_tensors(folder, lm_head__weight=head)
    assert np.array_equal(kvsim.load(folder)([5]), demo()([5]))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_stored_in_other_types(folder, dtype):
    tensors = load_file(folder / "model.safetensors")
    save_file({key: value.astype(dtype) for key, value in tensors.items()}, folder / "model.safetensors")
    stored = tensors["model.norm.weight"].astype(dtype)
    assert np.array_equal(kvsim.load(folder, dtype="float64").weights.final_norm.gain, stored.astype(np.float64))


def test_bfloat16_bits_are_read_exactly(folder):
    """1.0, -2.5 and the smallest normal number, given as bits, since NumPy has no bfloat16."""
    bits = np.resize(np.array([0x3F80, 0xC020, 0x0080], np.uint16), 64)
    change_tensors(folder, **{NORM: bits})

    def relabel(header):
        header["model.norm.weight"]["dtype"] = "BF16"

    change_header(folder, relabel)
    gain = kvsim.load(folder, dtype="float64").weights.final_norm.gain
    assert np.array_equal(gain, np.resize(np.array([1.0, -2.5, 2.0**-126]), 64))


def test_older_configs_keep_the_rotary_base_at_the_top(folder):
    change_config(folder, rope_parameters=..., rope_theta=500.0)
    assert kvsim.load(folder).config.layers[0].rope.theta == 500.0
    change_config(folder, rope_theta=...)
    assert kvsim.load(folder).config.layers[0].rope.theta == 10000.0


def test_gpt2_refuses_unsupported_fields(tmp_path):
    facts = json.loads((demo().path.parent.parent / "tests/fixtures/gpt2/config.json").read_text())
    for field, value in (("add_cross_attention", True), ("n_embd", 33), ("activation_function", "mish")):
        (tmp_path / "config.json").write_text(json.dumps(facts | {field: value}))
        assert f"{field} is {value!r}" in refused(tmp_path)


def split_in_two(folder):
    """Split the demo model into two shards and an index; {tensor: file}."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


def test_shards(folder):
    split_in_two(folder)
    assert np.array_equal(kvsim.load(folder)([5, 6]), demo()([5, 6]))


def test_a_missing_shard(folder):
    split_in_two(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors: there is no such file" in refused(folder)


@pytest.mark.parametrize("outside", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""])
def test_an_index_cannot_name_files_outside_the_folder(folder, outside):
    files = split_in_two(folder)
    index = {"weight_map": files | {"model.norm.weight": outside}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "which is outside its folder" in refused(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 3}}])
def test_an_invalid_index(folder, index):
    split_in_two(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "has no weight_map from tensors to files" in refused(folder)


def test_a_checkpoint_of_the_bare_model(folder):
    """Tensor names without the prefix `model.`, as in GPT-2's published checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    save_file({key.removeprefix("model."): value for key, value in tensors.items()}, folder / "model.safetensors")
    assert np.array_equal(kvsim.load(folder)([5, 6]), demo()([5, 6]))


def test_latent_needs_latent_attention():
    with pytest.raises(UsageError, match="this model has no latent attention: leave out latent='absorbed'"):
        kvsim.load("demo", latent="absorbed")
    with pytest.raises(UsageError, match="unknown latent 'compressed': use one of reexpanded, absorbed"):
        kvsim.load("demo", latent="compressed")
