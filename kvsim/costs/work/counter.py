"""`kvsim.count`: what generating costs, exact, without data.

The model's own forward pass runs on shapes (`kvsim.costs.work.forms`); sums over steps are those of polynomials.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kvsim.arrays import get_backend
from kvsim.caches import new_cache
from kvsim.caches.specs import POLICIES, find_policy, parse_spec
from kvsim.checks import LARGEST, check_whole
from kvsim.config import Config
from kvsim.costs.public.models import find_config
from kvsim.costs.work.forms import Forms, Sites
from kvsim.counting.events import kind_of, layer_of
from kvsim.counting.ledger import Totals
from kvsim.counting.symbolic import Piece, sum_over, value_at
from kvsim.errors import UsageError, shortened
from kvsim.loading.config_file import choose_latent

Key = Literal["site", "layer", "kind"]
_PARTS: dict[str, Callable[[str], str]] = {"site": str, "layer": layer_of, "kind": kind_of}


class Sums:
    """Totals at every site of a model whose layers of one kind are counted once."""

    def __init__(self, forms: Forms, sites: Sites) -> None:
        self.forms, self.sites = forms, sites  # the sites are those of the small model

    def _total(self, field: str) -> int:
        return sum(getattr(t, field) * self.forms.kinds.times(site) for site, t in self.sites.items())

    def with_head(self, rows: int) -> "Sums":
        """The same with the head on so many positions in all."""
        return Sums(self.forms, {**self.sites, **self.forms.head(rows)})

    @property
    def macs(self) -> int:
        """Multiply-accumulates executed."""
        return self._total("macs")

    @property
    def flops(self) -> int:
        """Floating-point operations executed: 2 · macs."""
        return 2 * self.macs

    @property
    def useful_macs(self) -> int:
        """Those on pairs that the mask admits; everything outside attention."""
        return self._total("useful_macs")

    @property
    def calls(self) -> int:
        """Matrix products, a mixture's experts as one (see `count`)."""
        return self._total("calls")

    def by(self, key: Key) -> dict[str, Totals]:
        """Totals per site ("layers.0.scores"), layer ("layers.0", "head") or kind ("scores")."""
        if not isinstance(key, str) or key not in _PARTS:
            raise UsageError("unknown key {key}: use site, layer or kind", key=repr(key))
        part = _PARTS[key]
        found: dict[str, Totals] = {}
        for small, totals in self.sites.items():
            for site in self.forms.kinds.names(small):
                name = part(site)
                found[name] = add(found.get(name), totals)
        return found


def add(one: Totals | None, other: Totals) -> Totals:
    return other if one is None else Totals(*(a + b for a, b in zip(one, other, strict=True)))


class Counted:
    """What has `sums` tells them by itself."""

    sums: Any

    @property
    def macs(self) -> int:
        """Multiply-accumulates executed."""
        return int(self.sums.macs)

    @property
    def flops(self) -> int:
        """Floating-point operations executed: 2 · macs."""
        return int(self.sums.flops)

    @property
    def useful_macs(self) -> int:
        """Those on pairs that the mask admits; everything outside attention."""
        return int(self.sums.useful_macs)

    def by(self, key: Key) -> dict[str, Totals]:
        """Totals per site ("layers.0.scores"), layer ("layers.0", "head") or kind ("scores")."""
        found: dict[str, Totals] = self.sums.by(key)
        return found


@dataclass(frozen=True)
class CountedStep(Counted):
    """One step of a count."""

    number: int  # from 1
    fed: int  # tokens that go through the model
    seen: int  # tokens that the cache held before
    sums: Sums


@dataclass(frozen=True)
class Count(Counted):
    """What `new` tokens cost after a prompt of `prompt`: exact integers."""

    model: str
    config: Config
    prompt: int
    new: int
    cache: str
    dtype: str
    source: int  # encoder positions; 0 without an encoder
    forms: Forms
    first: list[Piece[Sites]]  # steps that feed t tokens to an empty cache
    rest: list[Piece[Sites]]  # steps that feed one token to a cache that has seen t
    kv_bytes: int  # what the cache holds after the last fed token

    @cached_property
    def sums(self) -> Sums:
        """All steps."""
        return self.over(1, self.new)

    def over(self, first: int, last: int) -> Sums:
        """The steps `first` .. `last` together. An encoder's work belongs to step 1."""
        found = dict(self.forms.encoding) if first == 1 <= last else {}
        for piece, shift in self.numbered():
            lo, hi = max(piece.lo, first + shift), min(piece.hi, last + shift)
            for site, form in piece.value.items() if lo <= hi else ():
                summed = Totals(*(sum_over(f, lo, hi) for f in form))
                found[site] = add(found.get(site), summed)
        return Sums(self.forms, found)

    def numbered(self) -> Iterator[tuple[Piece[Sites], int]]:
        """The pieces, each with what its t is beyond the number of the step."""
        for shift, pieces in ((self.prompt - 1, self.first), (self.prompt - 2, self.rest)):
            yield from ((piece, shift) for piece in pieces)

    @property
    def steps(self) -> int:
        """How many steps: the first feeds the prompt, each of the others one token."""
        return self.new

    def step(self, number: int) -> CountedStep:
        """Step `number`, from 1. An encoder's work belongs to the first."""
        number = check_whole("number", number, 0, LARGEST)
        if not 1 <= number <= self.new:
            raise UsageError(
                "there is no step {number}: this count has steps 1 to {last}", number=number, last=self.new
            )
        fresh = number == 1 or not self.rest
        t = self.prompt + number - (1 if fresh else 2)
        piece = next(p for p in (self.first if fresh else self.rest) if p.lo <= t <= p.hi)
        sites = {site: Totals(*(value_at(f, t) for f in form)) for site, form in piece.value.items()}
        if number == 1:
            sites = {**self.forms.encoding, **sites}
        return CountedStep(number, t if fresh else 1, 0 if fresh else t, Sums(self.forms, sites))


def count(
    model: str | Path | Config,
    *,
    prompt: int,
    new: int = 1,
    cache: str = "dynamic",
    dtype: str = "float32",
    latent: str | None = None,
    source: int | None = None,
) -> Count:
    """Count what `generate` would execute: the prompt fed at once, then `new` - 1 tokens one by one.

    `model`: a name of the catalogue ("llama-3.1-405b"), a folder with config.json, such a file, or a Config.
    All positions go through the head, and attention computes full squares, as `model(ids)` does. With the
    cache "none" every step feeds the whole text again. `kv_bytes` is what the cache holds in `dtype` after
    the last fed token: the last new one is chosen and never fed. For an encoder-decoder `prompt` counts
    decoder tokens and `source` encoder positions; its encoder runs once, in the first step. Which experts
    of a mixture are chosen is data: their products are counted together, under `layers.N.experts`.

    UsageError: no such model or cache, sizes that make no sense. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    prompt, new = check_whole("prompt", prompt, 1, LARGEST), check_whole("new", new, 1, LARGEST)
    config = choose_latent(config, latent)
    if config.encoder is None and source is not None:
        raise UsageError("the model {model} has no encoder", model=name)
    if config.encoder is not None and source is None:
        raise UsageError("the model {model} reads a source: give source, its encoder positions", model=name)
    positions = 0 if source is None else check_whole("source", source, 1, LARGEST)
    get_backend("meta").dtype(dtype)
    last = prompt + new - 1  # tokens fed in all
    policy = parse_spec(cache).policy
    if not policy.symbolic:
        known = ", ".join(policy.example for policy in map(find_policy, POLICIES) if policy.symbolic)
        raise UsageError(
            "the costs of the cache {spec} are no polynomials of the length: count takes {known}",
            spec=shortened(cache),
            known=known,
        )
    forms = Forms(config, cache, dtype, last, positions)
    held = new_cache(cache, forms.kinds.config, forms.shapes.ops)
    held.admit(last)
    if held.keeps:
        first, rest = forms.first(prompt, prompt), forms.next(prompt, last - 1)
    else:
        first, rest = forms.first(prompt, last), []
    return Count(
        name, config, prompt, new, held.spec, dtype, positions, forms, first, rest, kv_bytes=forms.held_bytes(last)
    )
