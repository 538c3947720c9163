"""Stop conditions: ids or texts at which a run ends before `max_new_tokens`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kvsim.checks import as_int
from kvsim.errors import UsageError, shortened
from kvsim.model import Model

Stop = str | int | Sequence[str | int]


def _list_stops(stop: Any) -> list[Any]:
    """What `stop` holds. UsageError: neither an id, a text, nor several of them."""
    if stop is None:
        return []
    if isinstance(stop, str) or as_int(stop) is not None:
        return [stop]
    if isinstance(stop, bytes | Mapping) or not isinstance(stop, Iterable) or getattr(stop, "ndim", 1) == 0:
        raise UsageError("stop takes token ids and texts, got {got}", got=shortened(stop))
    return list(stop)


class Stopping:
    """The ids and texts of `generate(stop=...)`. UsageError: anything else, an id outside the vocabulary, empty text,
    or text without a tokenizer."""

    def __init__(self, model: Model, stop: Stop | None) -> None:
        given = _list_stops(stop)
        self.texts = [s for s in given if isinstance(s, str)]
        if wrong := [s for s in given if not isinstance(s, str) and as_int(s) is None]:
            raise UsageError("stop takes token ids and texts, got {got}", got=shortened(wrong[0]))
        ids = [s for s in given if not isinstance(s, str)]
        self.ids = set(model.check_ids(ids)) if ids else set()
        self.tokenizer = model.tokenizer
        if "" in self.texts:
            raise UsageError("stop must not be empty text")
        if self.texts and self.tokenizer is None:
            raise UsageError("the model {model} has no tokenizer.json: stop at token ids, not text", model=model.name)

    def reached(self, new: list[int]) -> bool:
        """Do the new ids end in a stop id, or does their text contain a stop text?"""
        if new and new[-1] in self.ids:
            return True
        if not self.texts or self.tokenizer is None:
            return False
        text = self.tokenizer.decode(new)
        return any(s in text for s in self.texts)
