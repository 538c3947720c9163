"""GGUF files (extra gguf): the `gguf` package parses and dequantises; this file maps them to a model.

The metadata is translated to the fields of a config.json, so that the families read it as any other; tensors
are looked up by their names in a Hugging Face checkpoint of the same family.
"""

import gc
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.errors import FileError
from kvsim.loading.defaults import read_defaults
from kvsim.loading.facts import Facts

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


def gguf_name(key: str) -> str:
    """The name in a GGUF file of the tensor called `key` in a Hugging Face checkpoint."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
    if layer is None:
        return _OUTSIDE[key]
    return f"blk.{layer[1]}.{_NAMES[layer[2]]}.{layer[3]}"


def neighbours_to_halves(tensor: Any, n_heads: int) -> Any:
    """Rows of each head from (0, half, 1, half + 1 ..), as llama.cpp stores them, to halves."""
    split = tensor.reshape(n_heads, -1, 2, *tensor.shape[1:])
    return np.swapaxes(split, 1, 2).reshape(tensor.shape)


class GGUF:
    """One GGUF file: its metadata, and its tensors as a `Checkpoint` gives them.

    FileError: the extra is missing, or the file is no GGUF, truncated, of an architecture that is not
    read, or holds a quantisation that the package does not know.
    """

    owned = True

    def __init__(self, path: Path) -> None:
        if find_spec("gguf") is None:
            raise FileError('{path} needs the extra gguf: pip install ".[gguf,hf]" in a clone of kvsim', path=path)
        from gguf import GGUFReader

        self.path = path
        self._known: dict[str, Any] = {}
        try:
            self._reader = GGUFReader(path)
            self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
            self.architecture = str(self.read("general.architecture"))
        except Exception as error:  # the package has no error class of its own for a truncated file
            raise FileError(
                "cannot read {path} as GGUF: {reason} (is it cut short? get it again)", path=path, reason=error
            ) from error
        if self.architecture not in ARCHITECTURES:
            raise FileError(
                "{path}: GGUF files of architecture {found} are not read, only {known}",
                path=path,
                found=self.architecture,
                known=", ".join(ARCHITECTURES),
            )
        self.unused = {name for name in self._tensors if name != "rope_freqs.weight"}

    def read(self, key: str, default: Any = None) -> Any:
        """The value of a metadata field."""
        if key not in self._known:
            field = self._reader.fields.get(key)
            self._known[key] = None if field is None else field.contents()
        found = self._known[key]
        return default if found is None else found

    def forget_lists(self) -> None:
        """Free the vocabulary and every other list: the package keeps an array for every word, together a third of the
        size of a small model's weights."""
        single = (str, int, float, bool)
        known = {key: self.read(key) for key in self._reader.fields if not key.startswith("tokenizer.")}
        self._known = {key: value for key, value in known.items() if isinstance(value, single)}
        self._reader.fields.clear()
        self._reader.tensors.clear()
        gc.collect()  # now, so that the memory is free before the weights are read

    def facts(self) -> Facts:
        """The metadata as the fields of a config.json."""
        fields: dict[str, Any] = {"model_type": self.architecture, "hidden_act": "silu"}
        for word, key in _WORDS.items():
            value = self.read(f"{self.architecture}.{key}")
            if value is not None:
                fields[word] = value
        if self.read(f"{self.architecture}.rope.scaling.type", "none") not in ("none", ""):
            scaling, factor = (self.read(f"{self.architecture}.rope.scaling.{key}") for key in ("type", "factor"))
            original = self.read(f"{self.architecture}.rope.scaling.original_context_length")
            fields["rope_scaling"] = {
                "rope_type": scaling, "factor": factor, "original_max_position_embeddings": original
            }  # fmt: skip
        self._check_extras(fields)
        if "rope_freqs.weight" in self._tensors:  # Llama 3's scaling, precomputed: a divisor for each pair
            divisors = [float(x) for x in self._tensors["rope_freqs.weight"].data]
            fields["rope_scaling"] = {
                "rope_type": "longrope", "short_factor": divisors, "long_factor": divisors, "attention_factor": 1.0,
                "original_max_position_embeddings": fields.get("max_position_embeddings"),
            }  # fmt: skip
        embedding = self._tensors.get("token_embd.weight")
        if embedding is not None:
            fields["vocab_size"] = int(embedding.shape[1])
        fields["tie_word_embeddings"] = "output.weight" not in self._tensors
        fields.setdefault("rope_theta", 10000.0)  # llama.cpp's default
        # Fields that the metadata can express take no default of transformers.
        return Facts(self.path, fields, read_defaults(self.architecture).without(*_WORDS, "vocab_size"))

    def _check_extras(self, fields: dict[str, Any]) -> None:
        """FileError: metadata that ask for something that kvsim does not compute."""
        sizes = [fields.get("hidden_size", 0), fields.get("num_attention_heads", 1)]
        head = fields.get("head_dim", sizes[0] // sizes[1] if sizes[1] else 0)
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
                    value=value,
                    expected=fine[1],
                )

    def stored(self, key: str) -> tuple[str, Any]:
        """The tensor called `key` in a Hugging Face checkpoint, dequantised, with the rows of query and key in that
        checkpoint's order."""
        from gguf import quants

        name = gguf_name(key)
        if name not in self._tensors:
            raise FileError("{path} lacks the tensor {key} that its config.json asks for", path=self.path, key=name)
        self.unused.discard(name)
        tensor = self._tensors.pop(name)  # read once; popped so that the package's copy is freed
        try:
            array = quants.dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError, KeyError) as error:
            raise FileError(
                "{path}: the tensor {key} is quantised as {kind}, which the gguf package cannot read",
                path=self.path,
                key=name,
                kind=tensor.tensor_type.name,
            ) from error
        part = re.fullmatch(r"blk\.\d+\.attn_(q|k)\.(?:weight|bias)", name)
        if part is not None and ARCHITECTURES[self.architecture]:
            heads = self.read(f"{self.architecture}.attention.head_count")
            if part[1] == "k":
                heads = self.read(f"{self.architecture}.attention.head_count_kv", heads)
            if array.shape[0] % (2 * heads):
                raise FileError("{path}: the rows of {key} do not share out over its heads", path=self.path, key=name)
            array = neighbours_to_halves(array, heads)
        return "F32", array
