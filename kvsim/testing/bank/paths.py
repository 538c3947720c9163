"""Code paths: a mistake that is made only in some steps, as where a program has one branch for prompts and another for
decoding.

`along` makes a class with the mistake on one path out of the class with the mistake: where the path holds, its methods
run, elsewhere the correct ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.attention import LoopAttention
from kvsim.testing.independent.decoder import POLICIES, Decoder


class Path(NamedTuple):
    """The steps in which a mistake is made: `holds(start, count)`, of a step of `count` tokens after `start` others."""

    name: str  # the end of the names of classes
    en: str
    zh: str
    holds: Callable[[int, int], bool]

    def sentence(self, language: str) -> str:
        """The text in a language: "zh", otherwise English."""
        return self.zh if language == "zh" else self.en


SINGLE = Path("InSingle", "only in steps of one token", "只在每次一个词元的步中", lambda start, count: count == 1)
SEVERAL = Path("InChunks", "only in steps of several tokens", "只在一次多个词元的步中", lambda start, count: count > 1)
CACHED = Path("OnceCached", "only once something is cached", "只在缓存里已有内容之后", lambda start, count: start > 0)
DECODE = Path(
    "InDecode", "only in steps of one token after others", "只在已有词元之后、每次一个词元的步中",
    lambda start, count: start > 0 and count == 1,
)  # fmt: skip
LATER = Path(
    "InLaterChunks", "only in chunks of several tokens after others", "只在已有词元之后、一次多个词元的分块中",
    lambda start, count: start > 0 and count > 1,
)  # fmt: skip
FIRST = Path("InTheFirstStep", "only in the first step", "只在第一步", lambda start, count: start == 0)
LOOPED = Path(
    "Looped", "with a loop over the tokens of a chunk", "分块内逐个词元循环处理", lambda start, count: True
)  # fmt: skip


def along(cls: type[Any], path: Path) -> type[Any]:
    """A subclass of a mistake, of the decoder or of a cache, that makes it on one path. Of LOOPED: one that feeds the
    tokens of a chunk one by one."""
    if path is LOOPED:
        return type(cls.__name__ + path.name, (cls,), {"path": path, "forward": _one_by_one(cls)})
    right = next(base for base in cls.__mro__ if base is Decoder or base in POLICIES.values())
    changed = {name for base in cls.__mro__[: cls.__mro__.index(right)] for name in vars(base)}
    methods = {name for name in changed if not name.startswith("__") and callable(getattr(right, name, None))}
    body: dict[str, Any] = {name: _switch(cls, right, name, path) for name in methods}
    return type(cls.__name__ + path.name, (cls,), body | {"path": path})


def _switch(wrong: type[Any], right: type[Any], name: str, path: Path) -> Callable[..., Any]:
    """A method that is the wrong class's where the path holds in the current step, else the right class's."""

    def method(self: Any, *arguments: Any) -> Any:
        step = self.step if isinstance(self, LoopAttention) else self.decoder.step
        return getattr(wrong if path.holds(*step) else right, name)(self, *arguments)

    return method


def _one_by_one(cls: type[Any]) -> Callable[..., Any]:
    def forward(self: Any, ids: list[int]) -> Any:
        return np.concatenate([cls.forward(self, [token]) for token in ids])

    return forward
