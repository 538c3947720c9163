"""What the bank knows of a mistake, and how a class becomes one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvsim.testing.independent.attending import Attending
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows

STEPS = tuple(name for name, step in vars(Attending).items() if callable(step) and not name.startswith("_"))


@dataclass(frozen=True)
class Mistake:
    """One mistake, in every reading of it."""

    id: str
    en: str
    zh: str
    smallest: tuple[int, ...]  # the chunks of the smallest text that shows the first reading
    window: int | None = None  # of the model there
    policy: str = "dynamic"  # of the cache there
    twin: str = ""  # a real bug of the same kind
    variants: list[type[Decoder]] = field(default_factory=list)

    def sentence(self, language: str) -> str:
        return self.zh if language == "zh" else self.en

    @property
    def family(self) -> str:
        """The name of its policy."""
        return self.policy.partition(":")[0]

    def attention_variants(self) -> list[type[Decoder]]:
        """The readings that are of attention alone: neither positions nor a cache."""
        return [cls for cls in self.variants if _steps_of(cls) <= set(STEPS)]


BANK: dict[str, Mistake] = {}


def _steps_of(cls: type) -> set[str]:
    """What a reading overrides."""
    changed: set[str] = set()
    for base in cls.__mro__[: cls.__mro__.index(Decoder)]:
        changed |= {name for name in vars(base) if not name.startswith("__")}
    return changed


def _as_decoder(cls: type[Any], family: str) -> type[Decoder]:
    """A decoder with this cache, or the decoder itself."""
    if not issubclass(cls, Rows):
        return cls
    made: type[Decoder] = type(cls.__name__, (Decoder,), {"caches": POLICIES | {family: cls}})
    return made


def mistake(id: str, en: str, zh: str, smallest: tuple[int, ...], **more: Any) -> Callable[[type[Any]], type[Any]]:
    """Enter a class in the bank: a decoder or a cache with one method done wrong, the first reading of `id`."""
    BANK[id] = Mistake(id, en, zh, smallest, **more)
    return variant(id)


def variant(id: str) -> Callable[[type[Any]], type[Any]]:
    """Another reading."""

    def enter(cls: type[Any]) -> type[Any]:
        BANK[id].variants.append(_as_decoder(cls, BANK[id].family))
        return cls

    return enter
