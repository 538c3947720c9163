"""GGUF files: mutated bytes, and fields and tensors of mutated types, counts and places; loaded, run, text encoded."""

import math
import struct

import numpy as np

import kvsim
from tests.fuzz.mutations import FLOATS, NUMBERS, TEXTS, mutate_bytes
from tests.fuzz.tiny import make_tensors

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
TOKENS = ["h", "e", "l", "o", "Ġ", "he", "ll", "hell", "<|end|>", *(f"<{i}>" for i in range(30))]
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NEEDS = ("gguf", "tokenizers")


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[part.removesuffix('.weight')]}.weight"


# Each field: name, type, value; of an ARRAY the value is (type of the entries, length as written, entries).
FIELDS = [
    ("general.architecture", STRING, "llama"), ("llama.block_count", U32, 2), ("llama.context_length", U32, 64),
    ("llama.embedding_length", U32, 8), ("llama.feed_forward_length", U32, 12), ("llama.attention.head_count", U32, 2),
    ("llama.attention.head_count_kv", U32, 1), ("llama.attention.key_length", U32, 4),
    ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("llama.rope.freq_base", F32, 10000.0),
    ("llama.rope.dimension_count", U32, 4), ("general.alignment", U32, 32),
    ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "smollm"),
    ("tokenizer.ggml.tokens", ARRAY, (STRING, len(TOKENS), TOKENS)),
    ("tokenizer.ggml.token_type", ARRAY, (I32, len(TOKENS), [3 if t == "<|end|>" else 1 for t in TOKENS])),
    ("tokenizer.ggml.merges", ARRAY, (STRING, 3, ["h e", "l l", "he ll"])),
    ("tokenizer.ggml.bos_token_id", U32, 8), ("tokenizer.ggml.add_bos_token", BOOL, 1),
]  # fmt: skip


def make_places():
    """Each tensor: name, dimensions (the rows outermost last), type, offset; and the bytes of all."""
    places, data = [], b""
    for name, array in make_tensors().items():
        places.append((gguf_name(name), list(array.shape[::-1]), 0, len(data)))
        data += array.tobytes() + bytes(-array.nbytes % 32)
    places.append(("rope_freqs.weight", [2], 0, len(data)))
    return places, data + np.ones(2, np.float32).tobytes() + bytes(24)


PLACES, DATA = make_places()


def encode(kind, value):
    """A value of a type, as it is written in the file."""
    if kind == STRING:
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(raw)) + raw
    if kind == ARRAY:
        inner, length, entries = value
        return struct.pack("<IQ", inner, length % 2**64) + b"".join(encode(inner, entry) for entry in entries)
    form = FORMATS.get(kind, "I")
    if form in "fd":
        value = value if form == "d" or not abs(value) < math.inf or abs(value) < 3e38 else 3e38
        return struct.pack(f"<{form}", value)
    raw = (int(value) if math.isfinite(value) else 0) % 2 ** (8 * struct.calcsize(form))
    return raw.to_bytes(struct.calcsize(form), "little")


def pack(fields, places, data, counts=None):
    """A GGUF file. `counts`: those of tensors and fields, if not the true ones."""
    raw = b"GGUF" + struct.pack("<I", 3) + struct.pack("<QQ", *(counts or (len(places), len(fields))))
    for name, kind, value in fields:
        raw += encode(STRING, name) + struct.pack("<I", kind) + encode(kind, value)
    for name, dimensions, kind, offset in places:
        raw += encode(STRING, name) + struct.pack("<I", len(dimensions)) + b"".join(encode(U64, d) for d in dimensions)
        raw += struct.pack("<I", kind) + encode(U64, offset)
    return raw + bytes(-len(raw) % 32) + data


def draw_value(random, depth=0):
    """A type and a value of it; lists whose length is a lie, and lists in lists."""
    kind = random.choice((U8, I16, U32, U32, I32, U64, I64, F32, F64, BOOL, STRING, STRING, ARRAY, ARRAY, 13, 99))
    if kind == STRING:
        return kind, random.choice((*TEXTS, b"\xff\xfe", b"\xe4\xb8", "llama", "gpt2", "qwen2", "yarn", "linear"))
    if kind != ARRAY:
        return kind, random.choice(FLOATS if kind in (F32, F64) else NUMBERS)
    inner, value = draw_value(random, depth + 1) if depth < 3 else (U32, 1)
    entries = [value] * random.choice((0, 1, 2, 40, 300)[: 5 - depth])  # 24,000 in all, so that the input fits
    return kind, (inner, random.choice((len(entries), len(entries), *NUMBERS)), entries)


def change_field(random, fields):
    fields, at = list(fields), random.randrange(len(fields))
    name, kind, value = fields[at]
    what = random.randrange(6)
    if what == 0:
        del fields[at]
    elif what == 1 and kind in FORMATS:
        fields[at] = (name, random.choice(list(FORMATS)), value)
    elif what == 2 and kind in FORMATS:
        fields[at] = (name, kind, random.choice(FLOATS if kind in (F32, F64) else NUMBERS))
    elif what == 3 and kind == ARRAY and value[0] == STRING:
        entries = list(value[2])
        entries[random.randrange(len(entries))] = random.choice((*TEXTS, b"\xff", *TOKENS, "a b c", "zz yy"))
        fields[at] = (name, kind, (STRING, len(entries), entries))
    elif what == 4:
        extra = ("rope.scaling.type", "rope.scaling.factor", "attention.sliding_window", "expert_count", "logit_scale",
                 "attention.value_length", "rope.scaling.original_context_length")  # fmt: skip
        fields.append((f"llama.{random.choice(extra)}", *draw_value(random)))
    else:
        fields[at] = (name, *draw_value(random))
    return fields


def change_place(random, places):
    places, at = list(places), random.randrange(len(places))
    name, dimensions, kind, offset = places[at]
    what = random.randrange(6)
    if what == 0:
        del places[at]
    elif what == 1:
        dimensions = random.choice((dimensions[::-1], [*dimensions, 1], [math.prod(dimensions)], [], [1] * 9,
                                    [random.choice(NUMBERS)] * 2, [2**32, 2**32], [32, 2**40], [0, 2**62]))  # fmt: skip
        places[at] = (name, dimensions, kind, offset)
    elif what == 2:
        places[at] = (name, dimensions, random.randrange(45), offset)
    elif what == 3:
        places[at] = (name, dimensions, kind, random.choice((*NUMBERS, random.choice(places)[3], offset + 32)))
    elif what == 4:
        places[at] = (random.choice((*TEXTS, "output.weight", random.choice(places)[0])), dimensions, kind, offset)
    else:
        places.append((name, dimensions, kind, offset))
    return places


def write(folder, raw):
    path = folder / "m.gguf"
    path.write_bytes(raw)
    return path


def valid(folder):
    return write(folder, pack(FIELDS, PLACES, DATA))


def make(random, folder):
    kind = random.randrange(6)
    if kind == 0:
        return write(folder, mutate_bytes(random, pack(FIELDS, PLACES, DATA)))
    if kind == 1:
        return write(folder, pack(FIELDS, change_place(random, PLACES), DATA))
    if kind == 2:
        counts = random.choice(NUMBERS) % 2**64, random.choice((len(FIELDS), random.choice(NUMBERS) % 2**64))
        return write(folder, pack(FIELDS, PLACES, DATA, counts))
    fields = FIELDS
    for _ in range(random.choice((1, 1, 2))):
        fields = change_field(random, fields)
    return write(folder, pack(fields, PLACES, DATA))


def use(path):
    model = kvsim.load(path)
    kvsim.generate(model, [1, 2, 3], 2, stop=None)
    if model.tokenizer is not None:
        ids = model.tokenizer.encode("hello <|end|>中")
        model.tokenizer.decode(ids)
        model.tokenizer.split("hello")
        model.tokenizer.decode([7, 8, 39])
