"""A model's tokens as text, whether or not it has a tokenizer."""

from kvsim.generation.runs import Prompt, encode_prompt
from kvsim.model import Model
from kvsim.text import Piece


def read_pieces(model: Model, prompt: Prompt) -> tuple[Piece, ...]:
    """The prompt token by token, as it was written. UsageError: it is empty."""
    ids = encode_prompt(model, prompt)
    if isinstance(prompt, str) and model.tokenizer is not None:
        return tuple(model.tokenizer.split(prompt))
    return tuple(read_piece(model, i) for i in ids)


def read_piece(model: Model, id: int) -> Piece:
    """One token by itself."""
    return Piece(id, f"[{id}]" if model.tokenizer is None else model.tokenizer.piece(id))
