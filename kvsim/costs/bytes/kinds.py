"""A model reduced to one layer of each kind: layers of one kind have the same arrays and cost the same.

Layers that differ in nothing but the factor on their scores cost the same too, and count as one kind.
"""

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

    def layers_of(self, kind: LayerKind) -> tuple[int, ...]:
        """The numbers of the model's layers of one kind of `config.layers`."""
        return self.members[self.config.layers.index(kind)]

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
    found: dict[LayerKind, list[int]] = {}
    same: dict[int, list[int]] = {}  # by id of the kind, so that a kind is hashed once, not for each of its layers
    for i, kind in enumerate(layers):
        if id(kind) not in same:
            same[id(kind)] = found.setdefault(kind, [])
        same[id(kind)].append(i)
    return {kind: tuple(members) for kind, members in found.items()}


def without_scales(layers: Iterable[LayerKind]) -> tuple[LayerKind, ...]:
    """The layers without the factors on their scores, which make no difference to what a layer costs: GPT-2 may have
    another one in each of its layers."""
    layers = tuple(layers)
    made = {id(kind): kind if kind.scale is None else replace(kind, scale=None) for kind in layers}
    return tuple(made[id(kind)] for kind in layers)


def reduce_config(config: Config, context: int = 0, source: int = 0) -> Kinds:
    """The model with one layer of each kind and at least `context` positions (its encoder: `source`).

    A context beyond the model's own is counted as any other: position tables cost no products.
    """

    def reduce(part: Config, positions: int) -> tuple[Config, Members]:
        kinds = group_layers(without_scales(part.layers))
        room = max(part.max_context, positions)
        return replace(part, layers=tuple(kinds), n_layers=len(kinds), max_context=room), tuple(kinds.values())

    reduced, members = reduce(config, context)
    if config.encoder is None:
        return Kinds(reduced, members)
    encoder, encoder_members = reduce(config.encoder, source)
    return Kinds(replace(reduced, encoder=encoder), members, encoder_members)
