"""The names of the places that `watch` can record."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from kvsim.config import Config
from kvsim.errors import UsageError, shortened
from kvsim.transformer.attention import INSIDE


def list_places(config: Config) -> Iterator[str]:
    """The name of every place of a model, those of an encoder first."""
    if config.encoder is not None:
        yield from (f"encoder.{place}" for place in list_places(config.encoder))
    crossed = () if config.encoder is None else tuple(f"cross_{name}" for name in INSIDE)
    yield "embedding"
    for layer in range(config.n_layers):
        for name in (*INSIDE, *crossed, "hidden"):
            yield f"layers.{layer}.{name}"
    yield "final"


def check_patterns(config: Config, model: str, patterns: tuple[str, ...]) -> None:
    """UsageError: a pattern that is no text, or that no place of the model matches, so that nothing could be seen."""
    for pattern in patterns:
        if not (isinstance(pattern, str) and any(fnmatchcase(place, pattern) for place in list_places(config))):
            raise UsageError(
                "no place of {model} matches {pattern}: watch embedding, final, or layers.*. and one of"
                " query, key, value, scores, capped, masked, probs, context, hidden",
                model=model,
                pattern=shortened(pattern),
            )
