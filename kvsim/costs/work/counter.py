"""`kvsim.count`: the exact costs of generating, without data.

The model's own forward pass runs on shapes (`kvsim.costs.work.forms`); sums over steps are sums of polynomials.
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
from kvsim.costs.public.models import check_source, find_config
from kvsim.costs.work.forms import Forms, Sites
from kvsim.counting.events import kind_of, layer_of
from kvsim.counting.ledger import Totals
from kvsim.counting.symbolic import Piece, sum_over, value_at
from kvsim.errors import UsageError, shortened
from kvsim.loading.config_file import choose_latent
from kvsim.schemas.display import mimebundle

Key = Literal["site", "layer", "kind"]
_PARTS: dict[str, Callable[[str], str]] = {"site": str, "layer": layer_of, "kind": kind_of}


class Sums:
    """Totals at every site of a model, of which one layer of each kind was run."""

    def __init__(self, forms: Forms, sites: Sites) -> None:
        self.forms, self.sites = forms, sites  # by site of the reduced model

    def __repr__(self) -> str:
        return f"Sums(sites={len(self.sites)}, macs={self.macs}, calls={self.calls})"

    def _total(self, field: str) -> int:
        return sum(getattr(t, field) * self.forms.kinds.times(site) for site, t in self.sites.items())

    def with_head(self, rows: int) -> "Sums":
        """The same sums with the head on `rows` positions in all."""
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
        """Multiply-accumulates on pairs that the mask admits, and all those outside attention."""
        return self._total("useful_macs")

    @property
    def calls(self) -> int:
        """Matrix products, those of all experts of a mixture as one (see `count`)."""
        return self._total("calls")

    def by(self, key: Key) -> dict[str, Totals]:
        """Totals per site ("layers.0.scores"), layer ("layers.0", "head") or kind ("scores"). UsageError: other key."""
        if not isinstance(key, str) or key not in _PARTS:
            raise UsageError("unknown key {key}: use site, layer or kind", key=shortened(key))
        part = _PARTS[key]
        found: dict[str, Totals] = {}
        for reduced, totals in self.sites.items():
            if key == "kind":  # the same in all layers
                name, times = kind_of(reduced), self.forms.kinds.times(reduced)
                found[name] = add(found.get(name), Totals(*(number * times for number in totals)))
                continue
            for site in self.forms.kinds.names(reduced):
                name = part(site)
                found[name] = add(found.get(name), totals)
        return found


def add(one: Totals | None, other: Totals) -> Totals:
    """The sum of two totals; None counts as zero."""
    return other if one is None else Totals(*(a + b for a, b in zip(one, other, strict=True)))


class Counted:
    """The properties of `sums` as properties of the object itself."""

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
        """Multiply-accumulates on pairs that the mask admits, and all those outside attention."""
        return int(self.sums.useful_macs)

    def by(self, key: Key) -> dict[str, Totals]:
        """Totals per site ("layers.0.scores"), layer ("layers.0", "head") or kind ("scores"). UsageError: other key."""
        found: dict[str, Totals] = self.sums.by(key)
        return found


@dataclass(frozen=True)
class CountedStep(Counted):
    """One step of a count."""

    number: int  # from 1
    fed: int  # tokens that go through the model
    seen: int  # tokens that the cache held before
    sums: Sums

    def __repr__(self) -> str:
        return f"CountedStep(number={self.number}, fed={self.fed}, seen={self.seen}, macs={self.macs})"


@dataclass(frozen=True)
class Count(Counted):
    """The costs of generating `new` tokens after a prompt of `prompt` tokens: exact integers."""

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

    _repr_mimebundle_ = mimebundle

    def __repr__(self) -> str:
        source = f", source={self.source}" if self.source else ""
        run = f"prompt={self.prompt}, new={self.new}, cache={self.cache!r:.40}, dtype={self.dtype!r}{source}"
        return f"Count({self.model!r:.40}, {run})"

    @cached_property
    def sums(self) -> Sums:
        """The sums over all steps."""
        return self.over(1, self.new)

    def over(self, first: int, last: int) -> Sums:
        """The sums over the steps `first` .. `last`. The encoder's products belong to step 1."""
        first, last = check_whole("first", first, 1, LARGEST), check_whole("last", last, 0, LARGEST)
        found = dict(self.forms.encoding) if first == 1 <= last else {}
        for piece, shift in self.numbered():
            lo, hi = max(piece.lo, first + shift), min(piece.hi, last + shift)
            for site, form in piece.value.items() if lo <= hi else ():
                summed = Totals(*(sum_over(f, lo, hi) for f in form))
                found[site] = add(found.get(site), summed)
        return Sums(self.forms, found)

    def numbered(self) -> Iterator[tuple[Piece[Sites], int]]:
        """Each piece with the difference of its t and the number of the step."""
        for shift, pieces in ((self.prompt - 1, self.first), (self.prompt - 2, self.rest)):
            yield from ((piece, shift) for piece in pieces)

    @property
    def steps(self) -> int:
        """The number of steps: the first feeds the prompt, each of the others one token."""
        return self.new

    def step(self, number: int) -> CountedStep:
        """Step `number`, from 1; the encoder's products belong to the first. UsageError: no such step."""
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
    """Count what `generate` would execute: a prompt of `prompt` tokens fed at once, then `new` - 1 tokens one by one.

    `model`: a name of the catalogue ("llama-3.1-405b"), a folder with config.json, such a file, or a Config.
    All positions go through the head, and attention computes full squares, as `model(ids)` does. With the
    cache "none" every step feeds the whole text again. `kv_bytes` is what the cache holds in `dtype` after
    the last fed token: the last new token is chosen and never fed. For an encoder-decoder `prompt` counts
    decoder tokens and `source` encoder positions; its encoder runs once, in the first step. Which experts
    of a mixture are chosen depends on data: their products are counted together, under `layers.N.experts`.

    UsageError: no such model or cache, or a size that is not possible. FileError: a config.json that cannot be used.
    """
    name, config = find_config(model)
    prompt, new = check_whole("prompt", prompt, 1, LARGEST), check_whole("new", new, 1, LARGEST)
    config = choose_latent(config, latent)
    positions = check_source(name, config, source)
    get_backend("meta").dtype(dtype)
    last = prompt + new - 1  # tokens fed in all
    _check_symbolic(cache)
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


def _check_symbolic(cache: str) -> None:
    """UsageError: a cache whose shapes depend on more than lengths."""
    if not parse_spec(cache).policy.symbolic:
        known = ", ".join(policy.example for policy in map(find_policy, POLICIES) if policy.symbolic)
        raise UsageError(
            "the costs of the cache {spec} are not polynomials of the length: count supports {known}",
            spec=shortened(cache),
            known=known,
        )
