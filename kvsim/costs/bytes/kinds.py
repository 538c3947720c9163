"""A model reduced to one layer of each kind: layers of one kind have the same arrays and cost the same."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvsim.config import Config, LayerKind

Members = tuple[tuple[int, ...], ...]  # for each layer of the reduced model, the layers of the model it stands for


@dataclass(frozen=True)
class Kinds:
    """A model with one layer of each kind, and which layers each stands for."""

    config: Config
    members: Members
    encoder_members: Members = ()

    def names(self, site: str) -> list[str]:
        """The sites or arrays of the full model that `site` of the reduced model stands for."""
        head, _, rest = site.partition("layers.")
        if not rest:
            return [site]
        number, _, place = rest.partition(".")
        return [f"{head}layers.{i}.{place}" for i in self._members(head)[int(number)]]

    def times(self, site: str) -> int:
        """The number of sites or arrays of the full model that `site` stands for."""
        head, _, rest = site.partition("layers.")
        return len(self._members(head)[int(rest.partition(".")[0])]) if rest else 1

    def _members(self, head: str) -> Members:
        return self.encoder_members if head else self.members


def group_layers(layers: Iterable[LayerKind]) -> dict[LayerKind, tuple[int, ...]]:
    """Each kind of layer, in order of first occurrence, with the numbers of its layers."""
    found: dict[LayerKind, tuple[int, ...]] = {}
    for i, kind in enumerate(layers):
        found[kind] = (*found.get(kind, ()), i)
    return found


def reduce_config(config: Config, context: int = 0, source: int = 0) -> Kinds:
    """The model with one layer of each kind and at least `context` positions (its encoder: `source`).

    A context beyond the model's own is counted as any other: position tables cost no products.
    """

    def reduce(part: Config, positions: int) -> tuple[Config, Members]:
        kinds = group_layers(part.layers)
        room = max(part.max_context, positions)
        return replace(part, layers=tuple(kinds), n_layers=len(kinds), max_context=room), tuple(kinds.values())

    reduced, members = reduce(config, context)
    if config.encoder is None:
        return Kinds(reduced, members)
    encoder, encoder_members = reduce(config.encoder, source)
    return Kinds(replace(reduced, encoder=encoder), members, encoder_members)
