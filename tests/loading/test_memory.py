"""Peak memory of loading: anonymous memory."""

import math
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

from kvsim.loading.checkpoint import Checkpoint
from tests.fuzz.targets.gguf import FIELDS, U32, pack
from tests.fuzz.tiny import pack as safetensors_file
from tests.loading.folders import change_config, copy_demo

SCRIPT = """
import sys, threading, time
import kvsim.loading.loader, kvsim.model
if sys.argv[1].endswith(".gguf"):
    import gguf

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

before, peak, done = anonymous(), [0], []
def watch():
    while not done:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.001)
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
model = kvsim.loading.loader.load(sys.argv[1], dtype=sys.argv[2])
done.append(True)
watcher.join()
arrays = {}
def walk(record):
    if isinstance(record, tuple):
        [walk(part) for part in record]
    elif hasattr(record, "nbytes"):
        arrays[id(record)] = record.nbytes
    elif record is not None:
        [walk(part) for part in vars(record).values()]
walk(model.weights)
print((max(peak[0], anonymous()) - before) / sum(arrays.values()))
"""


def peak(path, dtype):
    """Peak memory of loading in a process of its own, in units of the weights' bytes."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path), dtype], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("stored", "dtype"), [("float32", "float32"), ("float16", "float32"), ("bfloat16", "float32"),
                                              ("float32", "float64")])  # fmt: skip
def test_peak_memory_is_that_of_the_weights(stored, dtype, tmp_path):
    """Below 1.15 times the weights, for a model so large (40 MB in float32) that the rest does not matter."""
    d, f, v, n = 256, 1024, 4096, 6
    folder = change_config(copy_demo(tmp_path), hidden_size=d, intermediate_size=f, vocab_size=v, num_hidden_layers=n,
                           tie_word_embeddings=False)  # fmt: skip
    shapes = {"model.embed_tokens.weight": (v, d), "lm_head.weight": (v, d), "model.norm.weight": (d,)}
    for i in range(n):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{p}_proj.weight": s for p, s in
                   (("q", (64, d)), ("k", (32, d)), ("v", (32, d)), ("o", (d, 64)))}  # fmt: skip
        shapes |= {f"{at}mlp.{p}_proj.weight": s for p, s in (("gate", (f, d)), ("up", (f, d)), ("down", (d, f)))}
        shapes |= {f"{at}{p}_layernorm.weight": (d,) for p in ("input", "post_attention")}
    rng = np.random.default_rng(0)
    if stored == "bfloat16":
        import json

        tensors = {key: np.full(shape, 0x3C00, np.uint16) for key, shape in shapes.items()}
        save_file(tensors, folder / "model.safetensors")
        raw = (folder / "model.safetensors").read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        for entry in header.values():
            entry["dtype"] = "BF16"
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    else:
        tensors = {key: rng.standard_normal(shape).astype(stored) for key, shape in shapes.items()}
        save_file(tensors, folder / "model.safetensors")
    assert 0.95 < peak(folder, dtype) < 1.15


@pytest.mark.parametrize("stored", ["F16", "BF16", "F64"])
def test_a_conversion_needs_no_second_copy(stored, tmp_path):
    """Of a tensor of 4 MB in float32, whatever it is stored as."""
    size = {"F16": 2, "BF16": 2, "F64": 8}[stored] * 2**20
    header = {"x": {"dtype": stored, "shape": [2**20], "data_offsets": [0, size]}}
    (tmp_path / "model.safetensors").write_bytes(safetensors_file(header, bytes(size)))
    checkpoint, array_N = Checkpoint(tmp_path, ""), np.ones(2**20, np.float32)
    tracemalloc.start()
    checkpoint.fill("x", 0, array_N)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not array_N.any()
    assert peak < 2**20


@pytest.mark.dev
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_of_a_quantised_file(tmp_path):
    """The same for Q8_0, 34 bytes for 32 numbers."""
    d, f, v, n = 512, 1024, 8192, 4
    shapes = {"token_embd": (v, d), "output_norm": (d,)}
    for i in range(n):
        shapes |= {f"blk.{i}.attn_{part}": (d, d) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{i}.ffn_gate": (f, d), f"blk.{i}.ffn_up": (f, d), f"blk.{i}.ffn_down": (d, f)}
        shapes |= {f"blk.{i}.attn_norm": (d,), f"blk.{i}.ffn_norm": (d,)}
    places, end = [], 0
    for name, shape in shapes.items():
        kind, size = (8, math.prod(shape) // 32 * 34) if len(shape) == 2 else (0, 4 * shape[0])
        places.append((f"{name}.weight", shape[::-1], kind, end))
        end += size
    sizes = {"block_count": n, "embedding_length": d, "feed_forward_length": f, "attention.head_count": 8,
             "attention.head_count_kv": 8, "attention.key_length": d // 8}  # fmt: skip
    changed = {f"llama.{key}" for key in sizes} | {"llama.rope.dimension_count"}
    fields = [field for field in FIELDS if field[0] not in changed and not field[0].startswith("tokenizer.")]
    fields += [(f"llama.{key}", U32, size) for key, size in sizes.items()]
    (tmp_path / "m.gguf").write_bytes(pack(fields, places, b""))
    os.truncate(tmp_path / "m.gguf", (tmp_path / "m.gguf").stat().st_size + end)  # zeros that take no room on the disk
    assert 0.95 < peak(tmp_path / "m.gguf", "float32") < 1.15
