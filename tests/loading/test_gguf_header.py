"""Headers of GGUF files: every count and type is checked before anything is made for it."""

import math
import struct

import numpy as np
import pytest

import kvsim
from kvsim.errors import FileError
from tests.fuzz.targets.gguf import (
    ARRAY,
    BOOL,
    DATA,
    F32,
    FIELDS,
    NAMES,
    PLACES,
    STRING,
    TOKENS,
    U8,
    U32,
    encode,
    pack,
    write,
)

pytestmark = pytest.mark.dev


def refused(folder, raw):
    """The message of the error that loading raises."""
    with pytest.raises(FileError) as caught:
        kvsim.load(write(folder, raw))
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 700
    return text


def with_field(name, kind, value, fields=FIELDS):
    """The file with this field, in place of the one of its name if there is one, and without rotary divisors."""
    return pack([*(field for field in fields if field[0] != name), (name, kind, value)], PLACES[:-1], DATA)


def test_the_file_that_the_others_are_made_from(tmp_path):
    model = kvsim.load(write(tmp_path, pack(FIELDS, PLACES, DATA)))
    assert model.tokenizer.encode("hello") == [8, 7, 3]
    assert np.isfinite(model([1, 2])).all()


def test_what_the_library_writes_is_read(tmp_path):
    """Every type of field and tensor that the gguf package writes, read as its own reader reads it."""
    from gguf import GGUFReader, GGUFWriter

    from kvsim.loading.gguf.file import GGUF

    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"x.{kind}", 100)
    writer.add_float32("x.f32", 0.5)
    writer.add_float64("x.f64", 0.1)
    writer.add_bool("x.bool", True)
    writer.add_string("x.text", "中")
    for number, value in enumerate(([1, -2], [0.5, 1.5], [True, False], ["a", "", "中"])):
        writer.add_array(f"x.{number}", value)
    writer.add_custom_alignment(64)
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((1, 2, 3, 4), np.float16)}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file, reader = GGUF(tmp_path / "m.gguf"), GGUFReader(tmp_path / "m.gguf")
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert {key: file.read(key) for key in fields} == {key: field.contents() for key, field in fields.items()}
    raw = (tmp_path / "m.gguf").read_bytes()
    for name, entry in file._header.tensors.items():
        assert entry.shape == tensors[name].shape
        assert raw[entry.start : entry.stop] == tensors[name].tobytes()


def counted(tensors, fields):
    return pack(FIELDS, PLACES, DATA, (tensors, fields))


def listed(kind, length):
    """A file with one field, a list that says it has `length` entries."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + encode(STRING, "x") + struct.pack("<IIQ", ARRAY, kind, length)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it ends within its header"),
        (b"GGML" + bytes(100), "it does not begin with GGUF"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "its byte order is not little-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "its version is not 2 or 3"),
        (counted(2**63, len(FIELDS)), "it counts more tensors than it can hold"),
        (counted(len(PLACES), 2**64 - 1), "it counts more fields of metadata than it can hold"),
        (counted(len(PLACES) + 1, len(FIELDS)), "as GGUF"),
        (counted(len(PLACES), len(FIELDS) + 1), "as GGUF"),
        (counted(60_000, len(FIELDS)), "it counts more tensors than it can hold"),
        (counted(len(PLACES), 60_000), "it counts more fields of metadata than it can hold"),
        *(
            (listed(kind, n), "it lists more entries than it can hold")
            for kind in (U8, F32, STRING)
            for n in (9, 2**60)
        ),
        (listed(STRING, 2) + struct.pack("<Q", 2**62) + bytes(50), "it ends within its header"),
        (listed(ARRAY, 1), "a list in its metadata is of an unknown type"),
        (listed(13, 1), "a list in its metadata is of an unknown type"),
        (with_field("x", 13, 0), "a field of its metadata is of an unknown type"),
        (with_field(b"\xff", U32, 0), "a text in it is not valid UTF-8"),
        (pack([*FIELDS, FIELDS[3]], PLACES, DATA), "two fields of its metadata have one name"),
        (with_field("general.alignment", U32, 0), "its alignment is not a power of two"),
        (with_field("general.alignment", U32, 24), "its alignment is not a power of two"),
        (with_field("general.alignment", STRING, "32"), "its alignment is not a power of two"),
        (pack(FIELDS, PLACES, DATA)[:-40], "it ends within its tensors"),
        (pack(FIELDS, PLACES, DATA)[:1000], "it ends within its header"),
    ],
)
def test_counts_and_types_that_a_file_cannot_have(raw, reason, tmp_path):
    assert reason in refused(tmp_path, raw)


def with_place(**changes):
    """The file with the first tensor changed; its fields are name, dimensions, kind and offset."""
    first = dict(zip(("name", "dimensions", "kind", "offset"), PLACES[0], strict=True)) | changes
    return pack(FIELDS, [tuple(first.values()), *PLACES[1:]], DATA)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (with_place(dimensions=[1] * 9), "a tensor has more than 4 dimensions"),
        (with_place(kind=44), "a tensor is of an unknown type"),
        (with_place(kind=2), "a row of a tensor is not a whole number of blocks"),
        (with_place(dimensions=[2**60, 2**60]), "two tensors overlap"),
        (with_place(offset=2**63), "it ends within its tensors"),
        (with_place(offset=4), "a tensor does not lie at a multiple of its alignment"),
        (with_place(offset=PLACES[3][3]), "two tensors overlap"),
        (with_place(name=PLACES[1][0]), "two tensors have one name"),
        (with_place(dimensions=[320]), "the tensor token_embd.weight has shape [320], expected 2 dimensions"),
        (with_place(dimensions=[8, 10, 4]), "the tensor token_embd.weight has shape [4, 10, 8], expected 2 dimensions"),
        (with_place(dimensions=[40, 8]), "tokenizer.ggml.tokens.length is 39, expected 0 .. 8"),
        (
            pack(FIELDS, [PLACES[0], (*PLACES[1][:1], [4, 2], *PLACES[1][2:]), *PLACES[2:]], DATA),
            "has shape [2, 4], its",
        ),
        (with_place(kind=24), "is quantised as I8, which the gguf package cannot read"),
    ],
)
def test_tensors_that_a_file_cannot_have(raw, reason, tmp_path):
    assert reason in refused(tmp_path, raw)


@pytest.mark.parametrize(
    ("name", "kind", "value", "message"),
    [
        ("general.architecture", U32, 3, "GGUF files of architecture 3 are not read"),
        ("general.architecture", STRING, "a\nb", "GGUF files of architecture 'a\\nb' are not read"),
        ("general.architecture", STRING, b"\xff", "general.architecture is another encoding, expected UTF-8"),
        ("llama.embedding_length", ARRAY, (U32, 2, [32, 32]), "hidden_size is [32, 32], expected a positive integer"),
        ("llama.embedding_length", STRING, "8", "hidden_size is '8', expected a positive integer"),
        ("llama.attention.head_count", U32, 0, "num_attention_heads is 0, expected a positive integer"),
        ("llama.attention.head_count", ARRAY, (U32, 2, [2, 2]), "num_attention_heads is [2, 2], expected a positive"),
        ("llama.attention.head_count_kv", F32, 1.0, "num_key_value_heads is 1.0, expected a positive integer"),
        ("llama.block_count", BOOL, 1, "num_hidden_layers is True"),
        ("llama.block_count", U32, 2**31, "num_hidden_layers is 2147483648, expected 1 .. 10000"),
        ("llama.rope.freq_base", F32, math.nan, "rope_theta is nan"),
        ("llama.rope.dimension_count", STRING, "x" * 1000, "llama.rope.dimension_count is 'xxx"),
        ("llama.rope.scaling.type", ARRAY, (STRING, 1, ["yarn"]), "rope_type is ['yarn'], expected"),
        ("llama.expert_count", ARRAY, (U32, 1, [4]), "llama.expert_count is [4], expected 0"),
        ("tokenizer.ggml.tokens", STRING, "abc", "tokenizer.ggml.tokens is 'abc', expected a list of texts"),
        ("tokenizer.ggml.tokens", ARRAY, (U32, 2, [1, 2]), "tokenizer.ggml.tokens is [1, 2], expected a list of texts"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, 1, [b"\xff"]), "tokenizer.ggml.tokens is another encoding, expected"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, 41, [*TOKENS, "x", "y"]), "tokens.length is 41, expected 0 .. 40"),
        ("tokenizer.ggml.merges", U32, 1, "tokenizer.ggml.merges is 1, expected a list of texts"),
        ("tokenizer.ggml.merges", ARRAY, (STRING, 1, ["he"]), "tokenizer.ggml.merges is 'he', expected two tokens"),
        ("tokenizer.ggml.merges", ARRAY, (STRING, 1, ["z z"]), "tokenizer.ggml.merges is 'z z', expected two tokens"),
        ("tokenizer.ggml.token_type", STRING, "3", "tokenizer.ggml.token_type is '3', expected a list of numbers"),
        ("tokenizer.ggml.bos_token_id", U32, 99, "tokenizer.ggml.bos_token_id is 99, expected 0 .. 38"),
        ("tokenizer.ggml.bos_token_id", STRING, "<s>", "tokenizer.ggml.bos_token_id is '<s>', expected a token id"),
        ("tokenizer.ggml.add_bos_token", U32, 1, "tokenizer.ggml.add_bos_token is 1, expected true or false"),
        ("tokenizer.ggml.pre", U32, 1, "tokenizer.ggml.pre is 1, expected a text"),
    ],
)
def test_metadata_of_another_type(name, kind, value, message, tmp_path):
    assert message in refused(tmp_path, with_field(name, kind, value))


def test_a_first_token_whose_text_is_no_template(tmp_path):
    """Blanks, a dollar and a colon mean something in the library's templates."""
    tokens = [*TOKENS[:-1], "$A x:1"]
    fields = [field for field in FIELDS if field[0] != "tokenizer.ggml.bos_token_id"]
    fields.append(("tokenizer.ggml.bos_token_id", U32, len(tokens) - 1))
    raw = with_field("tokenizer.ggml.tokens", ARRAY, (STRING, len(tokens), tokens), fields)
    model = kvsim.load(write(tmp_path, raw))
    assert model.tokenizer.encode("he") == [len(tokens) - 1, 5]


def test_counts_within_the_file_but_beyond_the_limits(tmp_path, monkeypatch):
    monkeypatch.setattr("kvsim.loading.gguf.header._MOST_ENTRIES", 10)
    assert "it lists more entries than it can hold" in refused(tmp_path, pack(FIELDS, PLACES, DATA))
    monkeypatch.undo()
    monkeypatch.setattr("kvsim.loading.gguf.header._MOST", 1000)
    assert "its header has more than 32 MiB" in refused(tmp_path, pack(FIELDS, PLACES, DATA))


def test_a_header_is_read_in_pieces(tmp_path, monkeypatch):
    whole = kvsim.load(write(tmp_path, pack(FIELDS, PLACES, DATA)))
    monkeypatch.setattr("kvsim.loading.gguf.header._PIECE", 5)
    pieces = kvsim.load(write(tmp_path, pack(FIELDS, PLACES, DATA)))
    assert np.array_equal(whole([5, 6]), pieces([5, 6]))
    assert whole.tokenizer.encode("hello") == pieces.tokenizer.encode("hello")


def test_names_are_those_of_the_reader():
    from kvsim.loading.gguf.file import gguf_name

    for layer in ("self_attn.q_proj", "mlp.down_proj", "input_layernorm"):
        assert gguf_name(f"model.layers.3.{layer}.weight") == f"blk.3.{NAMES[layer]}.weight"
