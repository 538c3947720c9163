"""The files of a llama of 2 layers so small that a case takes milliseconds."""

import json
import struct

import numpy as np

CONFIG = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def make_tensors():
    """{name in a Hugging Face checkpoint: array}."""
    d, f, q, kv = 8, 12, 8, 4
    shapes = {"model.embed_tokens.weight": (40, d), "model.norm.weight": (d,)}
    for i in range(2):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{part}_proj.weight": shape for part, shape in
                   (("q", (q, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, q)))}  # fmt: skip
        shapes |= {f"{at}mlp.{part}_proj.weight": s for part, s in (("gate", (f, d)), ("up", (f, d)), ("down", (d, f)))}
        shapes |= {f"{at}{part}_layernorm.weight": (d,) for part in ("input", "post_attention")}
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def make_header(tensors):
    """The header of a safetensors file with these tensors, and their bytes."""
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    return header, data


def pack(header, data):
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def write_config(folder, config=CONFIG):
    (folder / "config.json").write_text(json.dumps(config))
