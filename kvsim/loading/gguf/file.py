"""GGUF files (extra gguf): the `gguf` package dequantises; this file maps them to a model.

The metadata is translated to the fields of a config.json, so that the families read it as any other; tensors
are looked up by their names in a Hugging Face checkpoint of the same family.
"""

import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.errors import FileError, plain, shortened
from kvsim.files.reading import open_file
from kvsim.loading.checkpoint import Block, fill_decoded
from kvsim.loading.defaults import read_defaults
from kvsim.loading.facts import Facts
from kvsim.loading.gguf.header import Header

# model_type -> are the rows of query and key stored with each head's rotary pairs adjacent?
ARCHITECTURES = {"llama": True, "qwen2": False}
_WORDS = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "head_dim": "attention.key_length",
}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}  # fmt: skip


_DIVISORS = "rope_freqs.weight"  # Llama 3's scaling, precomputed: a divisor for each pair
_F32 = 0  # number of the type


def gguf_name(key: str) -> str:
    """The name in a GGUF file of the tensor called `key` in a Hugging Face checkpoint."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
    if layer is None:
        return _OUTSIDE[key]
    return f"blk.{layer[1]}.{_NAMES[layer[2]]}.{layer[3]}"


def neighbours_to_halves(tensor: Any, array: Any, n_heads: int) -> None:
    """Copy `tensor`, the rows of each head in the order (0, half, 1, half + 1 ..) as llama.cpp stores them, to `array`,
    in halves."""
    split = tensor.reshape(n_heads, -1, 2, *tensor.shape[1:])
    array.reshape(n_heads, 2, -1, *tensor.shape[1:])[...] = np.swapaxes(split, 1, 2)


class GGUF:
    """One GGUF file: its metadata, and its tensors as a `Checkpoint` gives them.

    FileError: the extra is missing, or the file is no GGUF, truncated, of an architecture that is not
    read, or holds a quantisation that the package does not know.
    """

    def __init__(self, path: Path) -> None:
        if find_spec("gguf") is None:
            raise FileError('{path} needs the extra gguf: pip install ".[gguf,hf]" in a clone of kvsim', path=path)
        from gguf.constants import GGML_QUANT_SIZES

        self.path = path
        self._blocks = {int(kind): Block(size, numbers) for kind, (numbers, size) in GGML_QUANT_SIZES.items()}
        with open_file(path) as file:
            self._header = Header(file, self._blocks)
            self._stamp = file.stamp
        self._tensors = self._header.tensors
        architecture = self.read("general.architecture")
        if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
            raise FileError(
                "{path}: GGUF files of architecture {found} are not read, only {known}",
                path=path,
                found=plain(architecture) if isinstance(architecture, str) else shortened(architecture),
                known=", ".join(ARCHITECTURES),
            )
        self.architecture = architecture
        self.unused = {name for name in self._tensors if name != _DIVISORS}

    def read(self, key: str, default: Any = None) -> Any:
        """The value of a metadata field."""
        found = self._header.read(key)
        return default if found is None else found

    def length(self, key: str) -> int:
        """The number of entries of a list of the metadata; 0 if the field is none."""
        return self._header.length(key)

    def forget_lists(self) -> None:
        """Free the vocabulary and every other list before the weights are read."""
        self._header.forget_lists()

    def facts(self) -> Facts:
        """The metadata as the fields of a config.json."""
        fields: dict[str, Any] = {"model_type": self.architecture, "hidden_act": "silu"}
        for word, key in _WORDS.items():
            value = self.read(f"{self.architecture}.{key}")
            if value is not None:
                fields[word] = value
        names = ("type", "factor", "original_context_length")
        scaling, factor, original = (self.read(f"{self.architecture}.rope.scaling.{name}") for name in names)
        if scaling not in (None, "none", ""):
            fields["rope_scaling"] = {
                "rope_type": scaling, "factor": factor, "original_max_position_embeddings": original
            }  # fmt: skip
        self._check_extras(fields)
        if _DIVISORS in self._tensors:
            divisors = self._read_divisors()
            fields["rope_scaling"] = {
                "rope_type": "longrope", "short_factor": divisors, "long_factor": divisors, "attention_factor": 1.0,
                "original_max_position_embeddings": fields.get("max_position_embeddings"),
            }  # fmt: skip
        if "token_embd.weight" in self._tensors:
            self._check_rank("token_embd.weight", 2)
            fields["vocab_size"] = self._tensors["token_embd.weight"].shape[0]
        fields["tie_word_embeddings"] = "output.weight" not in self._tensors
        fields.setdefault("rope_theta", 10000.0)  # llama.cpp's default
        # Fields that the metadata can express take no default of transformers.
        return Facts(self.path, fields, read_defaults(self.architecture).without(*_WORDS, "vocab_size"))

    def _check_rank(self, name: str, rank: int) -> None:
        found = self._tensors[name].shape
        if len(found) != rank:
            raise FileError(
                "{path}: the tensor {key} has shape {found}, expected {rank} dimensions",
                path=self.path,
                key=name,
                found=list(found),
                rank=rank,
            )

    def _read_divisors(self) -> list[float]:
        """The divisors of the rotary frequencies. FileError: no list, or longer than any head."""
        self._check_rank(_DIVISORS, 1)
        divisors_N = np.empty(min(self._tensors[_DIVISORS].shape[0], 2**16), "float32")
        self._fill(_DIVISORS, 0, divisors_N)
        return [float(x) for x in divisors_N]

    def _check_extras(self, fields: dict[str, Any]) -> None:
        """FileError: metadata that ask for something that kvsim does not compute."""
        head = fields.get("head_dim")
        if head is None:
            width, heads = fields.get("hidden_size"), fields.get("num_attention_heads")
            head = width // heads if isinstance(width, int) and isinstance(heads, int) and heads > 0 else None
        for key, fine in (
            ("rope.dimension_count", (None, head)),
            ("attention.value_length", (None, head)),
            ("attention.sliding_window", (None, 0)),
            ("expert_count", (None, 0)),
            ("logit_scale", (None, 1.0)),
            ("rope.scaling.attn_factor", (None, 1.0)),
            ("rope.scale_linear", (None, 1.0)),
        ):
            value = self.read(f"{self.architecture}.{key}")
            if value not in fine:
                raise FileError(
                    "{path}: {key} is {value}, expected {expected}",
                    path=self.path,
                    key=f"{self.architecture}.{key}",
                    value=shortened(value),
                    expected=shortened(fine[1]),
                )

    def _find(self, key: str) -> str:
        """The name of the tensor called `key` in a Hugging Face checkpoint. FileError: it is not there."""
        name = gguf_name(key)
        if name not in self._tensors:
            raise FileError("{path} lacks the tensor {key} that its config.json asks for", path=self.path, key=name)
        return name

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor. FileError: it is not there, is quantised in a way that the package does not know, or
        its rows do not share out over its heads."""
        name = self._find(key)
        self.unused.discard(name)
        entry = self._tensors[name]
        self._decode(name, np.zeros(self._blocks[entry.kind].size, np.uint8))
        heads = self._paired_heads(name)
        if heads and (not entry.shape or entry.shape[0] % (2 * heads)):
            raise FileError("{path}: the rows of {key} do not share out over its heads", path=self.path, key=name)
        return entry.shape

    def dtype(self, key: str) -> str:
        """The NumPy dtype that holds the tensor's numbers exactly."""
        return "float32"

    def fill(self, key: str, first: int, array_N: Any) -> None:
        """Fill `array_N`, of any float dtype, with the tensor's numbers from number `first` on (the first one of a
        row), dequantised. Queries and keys are read whole; their rows come in a Hugging Face checkpoint's order."""
        name = self._find(key)
        heads, entry = self._paired_heads(name), self._tensors[name]
        if not heads:
            self._fill(name, first, array_N)
            return
        stored_N = np.empty(math.prod(entry.shape), "float32")
        self._fill(name, 0, stored_N)
        neighbours_to_halves(stored_N.reshape(entry.shape), array_N.reshape(entry.shape), heads)

    def _paired_heads(self, name: str) -> int:
        """The number of heads whose rows are stored with rotary pairs adjacent; 0 if the tensor has none."""
        part = re.fullmatch(r"blk\.\d+\.attn_(q|k)\.(?:weight|bias)", name)
        if part is None or not ARCHITECTURES[self.architecture]:
            return 0
        heads = self.read(f"{self.architecture}.attention.head_count")
        return int(self.read(f"{self.architecture}.attention.head_count_kv", heads) if part[1] == "k" else heads)

    def _decode(self, name: str, part_B: Any) -> Any:
        """The numbers of some blocks of a tensor. FileError: the package does not know its quantisation."""
        from gguf import GGMLQuantizationType, quants

        kind = GGMLQuantizationType(self._tensors[name].kind)
        try:
            return quants.dequantize(part_B, kind).reshape(-1)
        except (NotImplementedError, ValueError, KeyError) as error:
            raise FileError(
                "{path}: the tensor {key} is quantised as {kind}, which the gguf package cannot read",
                path=self.path,
                key=name,
                kind=kind.name,
            ) from error

    def _fill(self, name: str, first: int, array_N: Any) -> None:
        """Fill `array_N` with a tensor's numbers from number `first` on, as stored but for their quantisation."""
        entry = self._tensors[name]
        block = self._blocks[entry.kind]
        start = entry.start + first // block.numbers * block.size
        with open_file(self.path, self._stamp) as file:
            if entry.kind == _F32 and array_N.dtype == np.dtype("<f4"):
                file.read_into(start, array_N)
            else:
                fill_decoded(file, start, block, lambda part_B: self._decode(name, part_B), array_N)
