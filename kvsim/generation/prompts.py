"""Prompts: what a run starts with (ids, and an encoder's states), and tokens read back as text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kvsim.arrays import Array
from kvsim.checks import check_list, holds_several
from kvsim.counting.events import MatMul
from kvsim.errors import UsageError, shortened
from kvsim.generation.options import count_if
from kvsim.model import Model
from kvsim.text import Piece

Prompt = str | Sequence[int]


def check_model(model: Any) -> None:
    """UsageError: no loaded model."""
    if not isinstance(model, Model):
        raise UsageError('expected a model, got {got}: load it first, as in kvsim.load("demo")', got=shortened(model))


def list_prompts(model: Model, prompt: Any) -> tuple[list[Prompt], bool]:
    """The prompts, and whether there are several: a list of texts, of lists or arrays of ids or of features, or a
    two-dimensional array of ids. UsageError: neither text, ids nor features."""
    config = model.config.encoder
    axes = 1 if config is None or config.audio is None else 2  # of the array of one prompt
    if isinstance(prompt, str) or getattr(prompt, "ndim", None) == axes:
        return [prompt], False
    parts = check_list("prompt", prompt)
    several = bool(parts) and all(map(holds_several, parts))
    return (parts, True) if several else ([parts], False)


def encode_prompt(model: Model, prompt: Prompt) -> list[int]:
    """The ids of a prompt. UsageError: no ids, or text for a model without a tokenizer."""
    if not isinstance(prompt, str):
        ids = model.check_ids(prompt)
    elif model.tokenizer is None:
        raise UsageError("the model {model} has no tokenizer.json: give token ids, not text", model=model.name)
    else:
        ids = model.tokenizer.encode(prompt)
    if not ids:
        raise UsageError("the text is empty: give at least one character")
    return ids


def encode_source(model: Model, prompt: Any) -> Array:
    """The encoder's output [S, D] for a prompt: text, ids, or features [mels, frames]. UsageError as `model.encode`."""
    assert model.config.encoder is not None
    if model.config.encoder.audio is not None:
        return model.encode(features=prompt)
    return model.encode(encode_prompt(model, prompt))


def start_id(model: Model) -> int:
    """The first decoder id of an encoder-decoder. UsageError: its config has none."""
    if model.config.start_id is None:
        raise UsageError("the config of {model} has no decoder_start_token_id", model=model.name)
    return model.config.start_id


class Start(NamedTuple):
    """What a run starts with."""

    ids: list[int]  # the first ids that the decoder is fed
    source: Array | None  # the encoder's output [S, D], where there is an encoder
    events: tuple[MatMul, ...]  # the encoder's products


def start_run(model: Model, prompt: Prompt, count: bool) -> Start:
    """The start of a run from `prompt`: tokenized, and encoded where the model has an encoder.

    UsageError: as `encode_prompt`, `encode_source` and `start_id`.
    """
    if model.config.encoder is None:
        return Start(encode_prompt(model, prompt), None, ())
    with count_if(model, count) as ledger:
        source = encode_source(model, prompt)
    return Start([start_id(model)], source, tuple(ledger.events))


def join_text(model: Model, prompt: Prompt, ids: list[int], new: list[int]) -> str | None:
    """The text of `ids` (prompt and `new`), with a prompt that is text kept as written; None without a tokenizer.

    Of an encoder-decoder only the new ids are text: the prompt is the encoder's.
    """
    if model.tokenizer is None:
        return None
    if model.config.encoder is not None:
        return model.tokenizer.decode(new)
    whole = model.tokenizer.decode(ids)
    if not isinstance(prompt, str):
        return whole
    return prompt + whole[len(model.tokenizer.decode(ids[: len(ids) - len(new)])) :]


def read_pieces(model: Model, prompt: Prompt) -> tuple[Piece, ...]:
    """The tokens of a prompt, each with its part of the text as written. UsageError: it is empty."""
    ids = encode_prompt(model, prompt)
    if isinstance(prompt, str) and model.tokenizer is not None:
        return tuple(model.tokenizer.split(prompt))
    return tuple(read_piece(model, i) for i in ids)


def read_piece(model: Model, id: int) -> Piece:
    """One token and its text; "[ID]" for a model without a tokenizer."""
    return Piece(id, f"[{id}]" if model.tokenizer is None else model.tokenizer.piece(id))
