"""The record of a mistake, and the decorators that enter classes into the bank."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvsim.testing.bank.paths import LOOPED, Path, along
from kvsim.testing.independent.attention import LoopAttention
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import Rows

STEPS = tuple(name for name, step in vars(LoopAttention).items() if callable(step) and not name.startswith("_"))


@dataclass(frozen=True)
class Mistake:
    """One mistake, with its text in English and Chinese and a decoder for each reading."""

    id: str
    en: str
    zh: str
    smallest: tuple[int, ...]  # the chunk sizes of the shortest text on which the first reading differs
    window: int | None = None  # of the model that the text is fed to
    policy: str = "dynamic"  # of its cache
    rope: str | None = "half"  # the positions of that model, as `kvsim.testing.weights` takes them
    edits: str = ""  # "crop", "fork" or "reorder", if it is made there: `smallest` is what is fed before
    twin: str = ""  # a real bug of the same kind, as owner/repository#number
    whole: bool = True  # may it also be made by attention that reads a whole buffer, past the rows that were written?
    variants: list[type[Decoder]] = field(default_factory=list)

    def sentence(self, language: str) -> str:
        """The text in a language: "zh", otherwise English."""
        return self.zh if language == "zh" else self.en

    @property
    def family(self) -> str:
        """The name of the cache policy, without options."""
        return self.policy.partition(":")[0]

    def attention_variants(self) -> list[type[Decoder]]:
        """The readings that change attention only, neither positions nor a cache."""
        other = bool(self.edits) or self.rope != "half"
        return [] if other else [cls for cls in self.variants if _steps_of(cls) <= {*STEPS, "path"}]

    def buffer_variants(self) -> list[type[Decoder]]:
        """The readings of attention that reads buffers of which a length is valid: those that change attention only,
        on the valid rows and on the whole buffer, and those that need buffers."""
        alone = self.attention_variants()
        return [*alone, *map(of_whole_buffer, alone if self.whole else []), *IN_BUFFERS.get(self.id, [])]


BANK: dict[str, Mistake] = {}
WHOLE: dict[type[Any], type[Any]] = {}  # by reading: the same in attention over whole buffers
IN_BUFFERS: dict[str, list[type[Decoder]]] = {}  # by id: readings that need buffers with a length


def _steps_of(cls: type) -> set[str]:
    """The names that a reading overrides."""
    changed: set[str] = set()
    for base in cls.__mro__[: cls.__mro__.index(Decoder)]:
        changed |= {name for name in vars(base) if not name.startswith("__")}
    return changed


def of_whole_buffer(cls: type[Any]) -> type[Decoder]:
    """The same mistake in attention over all rows of a buffer, those past the length included: one class for each."""
    if cls not in WHOLE:
        WHOLE[cls] = type(f"{cls.__name__}InWholeBuffer", (cls,), {"buffer_rows": lambda self, length, size: size})
    return WHOLE[cls]


def _as_decoder(cls: type[Any], family: str) -> type[Decoder]:
    """`cls` if it is a decoder; if it is a cache, a decoder that has it under the policy `family`."""
    if not issubclass(cls, Rows):
        return cls
    body = {"caches": POLICIES | {family: cls}, "path": getattr(cls, "path", None)}
    decoder: type[Decoder] = type(cls.__name__, (Decoder,), body)
    return decoder


def mistake(
    id: str, en: str, zh: str, smallest: tuple[int, ...], paths: tuple[Path, ...] = (), **more: Any
) -> Callable[[type[Any]], type[Any]]:
    """A decorator that enters a decoder or a cache into the bank, as the first reading of `id`. `paths`: as `variant`
    takes them."""
    BANK[id] = Mistake(id, en, zh, smallest, **more)
    return variant(id, paths)


def variant(id: str, paths: tuple[Path, ...] = ()) -> Callable[[type[Any]], type[Any]]:
    """A decorator that enters another reading of `id`, and one more for each of the code paths on which alone the
    mistake may be made."""

    def enter(cls: type[Any]) -> type[Any]:
        readings, family = BANK[id].variants, BANK[id].family
        readings.append(_as_decoder(cls, family))
        readings += [
            along(_as_decoder(cls, family), path) if path is LOOPED else _as_decoder(along(cls, path), family)
            for path in paths
        ]
        return cls

    return enter


def mistake_in_buffers(
    id: str, en: str, zh: str, smallest: tuple[int, ...], paths: tuple[Path, ...] = ()
) -> Callable[[type[Any]], type[Any]]:
    """A decorator that enters a mistake that needs buffers with a length, and its first reading."""
    BANK[id] = Mistake(id, en, zh, smallest)
    return in_buffers(id, paths)


def in_buffers(id: str, paths: tuple[Path, ...] = ()) -> Callable[[type[Any]], type[Any]]:
    """A decorator that enters a reading of `id` that is made where attention reads buffers with a length."""

    def enter(cls: type[Any]) -> type[Any]:
        IN_BUFFERS.setdefault(id, []).extend([cls, *(along(cls, path) for path in paths)])
        return cls

    return enter
