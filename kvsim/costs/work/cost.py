"""`kvsim.cost`: the costs of answering a prompt, prefill and decode apart.

Every figure is a sum over the ledger of the model's own forward pass on shapes (`kvsim.count`). For the conventions
see `kvsim.costs.work.conventions`, for bytes `kvsim.costs.work.traffic`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

from kvsim.checks import is_name
from kvsim.config import Config, LayerKind
from kvsim.costs.bytes.parameters import Parameters, measure_parameters
from kvsim.costs.work.conventions import CONVENTIONS, Convention, add_flops, macs_under, sites_under
from kvsim.costs.work.counter import Count, Sums, count
from kvsim.costs.work.crossover import Crossover, find_crossover
from kvsim.costs.work.reads import Reads, count_reads
from kvsim.costs.work.roofline import Bound, Limits, Work, bound
from kvsim.costs.work.traffic import Moved, Traffic
from kvsim.errors import UsageError, shortened
from kvsim.schemas.display import mimebundle

By = Literal["site", "layer", "kind", "place"]


@dataclass(frozen=True)
class Phase:
    """Several steps together: exact integers."""

    steps: int
    fed: int  # tokens
    sums: Sums  # the head on all positions
    moved: Moved  # bytes

    def __repr__(self) -> str:
        return f"Phase(steps={self.steps}, fed={self.fed}, bytes={self.moved.total})"

    def _under(self, convention: Convention) -> Sums:
        check_convention(convention)
        return Sums(self.sums.forms, sites_under(self.sums.forms, self.sums.sites, convention, self.steps))

    def macs(self, convention: Convention) -> int:
        """Multiply-accumulates."""
        return self.flops(convention) // 2

    def flops(self, convention: Convention) -> int:
        """Floating-point operations: 2 for each multiply-accumulate. UsageError: unknown convention."""
        return int(add_flops(self.sums.forms, self._under(convention).sites.items(), convention))

    def flops_by(self, key: By, convention: Convention) -> dict[str, int]:
        """FLOPs per site ("layers.0.scores"), layer ("layers.0"), kind ("scores") or place (a site in all layers
        together, "layers.*.scores"). UsageError: unknown key or convention."""
        sums = self._under(convention)
        if not isinstance(key, str) or key != "place":
            return {name: 2 * macs_under(totals, convention) for name, totals in sums.by(key).items()}
        found: dict[str, int] = {}
        for site, totals in sums.sites.items():
            place = re.sub(r"layers\.\d+", "layers.*", site)
            found[place] = found.get(place, 0) + int(add_flops(sums.forms, [(site, totals)], convention))
        return found

    def flops_by_layer_kind(self, convention: Convention) -> dict[LayerKind, int]:
        """FLOPs of the decoder's layers, per kind of layer, without its `scale`, which changes no cost."""
        sums = self._under(convention)
        layers = sums.forms.kinds.config.layers
        found = dict.fromkeys(layers, 0)
        for site, totals in sums.sites.items():
            if site.startswith("layers."):
                found[layers[int(site.split(".")[1])]] += int(add_flops(sums.forms, [(site, totals)], convention))
        return found

    def flops_of_all_experts(self, convention: Convention) -> int:
        """FLOPs if every token went through every expert; equal to `flops` without experts."""
        sums = self._under(convention)
        more = 0
        for site, totals in sums.sites.items():
            if ".experts." in site:
                part = sums.forms.kinds.config
                part = part.encoder if site.startswith("encoder.") and part.encoder is not None else part
                experts = part.layers[int(site.removeprefix("encoder.").split(".")[1])].experts
                assert experts is not None
                chosen = int(add_flops(sums.forms, [(site, totals)], convention))
                more += chosen // experts.chosen * (experts.count - experts.chosen)
        return self.flops(convention) + more

    def flops_without_head(self, convention: Convention) -> int:
        """FLOPs of all products but the head's."""
        return self.flops(convention) - self.flops_by("kind", convention).get("head", 0)

    def intensity(self, convention: Convention) -> Fraction | None:
        """FLOPs per byte moved; None without steps."""
        return Fraction(self.flops(convention), self.moved.total) if self.moved.total else None


@dataclass(frozen=True)
class Side:
    """The run with one cache."""

    count: Count
    reads: Reads

    def __repr__(self) -> str:
        return f"Side({self.count!r})"

    @cached_property
    def traffic(self) -> Traffic:
        """Bytes that the steps move."""
        return Traffic(self.count, self.reads)

    @cached_property
    def prefill(self) -> Phase:
        """The step that feeds the prompt and encodes the source."""
        return Phase(1, self.count.prompt, self.count.over(1, 1), self.traffic.first_step())

    @cached_property
    def decode(self) -> Phase:
        """The other steps: one for each new token but the last, which is chosen and never fed."""
        new, prompt = self.count.new, self.count.prompt
        fed = new - 1
        if not self.traffic.keeps:  # prompt + 1, prompt + 2, ...
            fed = (new - 1) * (prompt + prompt + new) // 2
        return Phase(new - 1, fed, self.count.over(2, new), self.traffic.other_steps_together())

    @cached_property
    def total(self) -> Phase:
        """All steps together."""
        moved = (a + b for a, b in zip(self.prefill.moved, self.decode.moved, strict=True))
        return Phase(self.count.new, self.prefill.fed + self.decode.fed, self.count.sums, Moved(*moved))

    def step_flops(self, number: int, convention: Convention) -> int:
        """FLOPs of step `number`, from 1. UsageError: no such step or convention."""
        step = self.count.step(number)
        sites = sites_under(self.count.forms, step.sums.sites, check_convention(convention), 1)
        return int(add_flops(self.count.forms, sites.items(), convention))

    def _works(self, convention: Convention) -> Iterator[Work]:
        """FLOPs and bytes of the steps after the first."""
        forms, moves = self.count.forms, list(self.traffic.other_steps())
        for piece, shift in self.count.numbered():
            flops = add_flops(forms, sites_under(forms, piece.value, convention, 1).items(), convention)
            for other, _ in moves:
                lo, hi = max(piece.lo, other.lo, shift + 2), min(piece.hi, other.hi)
                if lo <= hi:
                    yield Work(lo, hi, flops, other.value.total)

    def bounds(self, limits: Limits, convention: Convention) -> tuple[Bound, Bound]:
        """Lower bounds on the times of prefill and of decode. UsageError: unknown convention."""
        check_convention(convention)
        first = Work(1, 1, self.prefill.flops(convention), self.prefill.moved.total)
        return bound(limits, [first]), bound(limits, self._works(convention))


@dataclass(frozen=True)
class Cost:
    """A run with a cache and the same run without one."""

    cached: Side
    uncached: Side
    parameters: Parameters

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        return repr(self.count).replace("Count(", "Cost(", 1)

    @property
    def count(self) -> Count:
        """The count of the run with the cache."""
        return self.cached.count

    @property
    def config(self) -> Config:
        """The model."""
        return self.count.config

    def ratio(self, convention: Convention) -> Fraction:
        """FLOPs of the run without a cache over those of the run with it. UsageError: unknown convention."""
        return Fraction(self.uncached.total.flops(convention), self.cached.total.flops(convention))

    @cached_property
    def crossover(self) -> Crossover:
        """The context from which attention costs at least as much as all products with weights."""
        return find_crossover(self.count)


def check_convention(convention: Convention) -> Convention:
    """`convention` itself. UsageError: unknown."""
    if not is_name(convention, CONVENTIONS):
        raise UsageError(
            "unknown convention {convention}: use one of {known}",
            convention=shortened(convention),
            known=", ".join(CONVENTIONS),
        )
    return convention


def cost(
    model: str | Path | Config,
    *,
    prompt: int,
    new: int = 1,
    cache: str = "dynamic",
    dtype: str = "bfloat16",
    latent: str | None = None,
    source: int | None = None,
) -> Cost:
    """The costs of `new` tokens after a prompt of `prompt` tokens: FLOPs and bytes, prefill and decode apart, with the
    cache and without one. Arguments and errors are those of `kvsim.count`; `dtype` is that of weights, keys and values.

    >>> llama = cost("llama-2-7b-hf", prompt=4096, new=2)
    >>> llama.cached.prefill.flops("causal"), llama.cached.decode.flops("last")
    (58524298117120, 15362162688)
    """
    with_cache, without = (
        count(model, prompt=prompt, new=new, cache=kind, dtype=dtype, latent=latent, source=source)
        for kind in (cache, "none")
    )
    reads = count_reads(with_cache.config)
    return Cost(Side(with_cache, reads), Side(without, reads), measure_parameters(with_cache.config))
