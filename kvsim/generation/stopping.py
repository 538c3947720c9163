"""Stop conditions: ids or texts at which a run ends before `max_new_tokens`."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from kvsim.errors import UsageError, shortened
from kvsim.model import Model

Stop = str | int | Sequence[str | int]


class Stopping:
    """The ids and texts of `generate(stop=...)`. UsageError: anything else, empty text, or text without a tokenizer."""

    def __init__(self, model: Model, stop: Stop | None) -> None:
        one = isinstance(stop, str) or (hasattr(stop, "__index__") and not hasattr(stop, "__len__"))
        if not (stop is None or one or isinstance(stop, Iterable)):
            raise UsageError("stop takes token ids and texts, got {got}", got=shortened(stop))
        given: list[Any] = [] if stop is None else [stop] if one else list(cast("Iterable[Any]", stop))
        self.ids = {int(s) for s in given if hasattr(s, "__index__")}
        self.texts = [s for s in given if isinstance(s, str)]
        if wrong := [s for s in given if not (isinstance(s, str) or hasattr(s, "__index__"))]:
            raise UsageError("stop takes token ids and texts, got {got}", got=shortened(wrong[0]))
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
