"""From which context on attention costs more than all products with weights: the first one, exact."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from kvsim.caches.specs import parse_spec
from kvsim.costs.work.conventions import CONVENTIONS, Convention, add_flops, is_attention, run_sites
from kvsim.costs.work.counter import Count
from kvsim.costs.work.forms import Forms, Sites
from kvsim.counting.symbolic import Piece, Poly, evaluate, sign_changes

FARTHEST = 10**15  # tokens; what attends to a window alone never gets there


class Crossover(NamedTuple):
    """Tokens; None: not within `FARTHEST`."""

    decode: int | None  # visible to the step that feeds one token, itself among them; pairs that the mask admits
    prefill: dict[Convention, int | None]  # fed at once to an empty cache


def first_at_least_zero(form: Any, lo: int, hi: int) -> int | None:
    """The first t of lo .. hi for which the form is not negative."""
    coefficients = form.coefficients if type(form) is Poly else (form,)
    for t in (lo, *sign_changes(coefficients, lo, hi)):
        if evaluate(coefficients, t) >= 0:
            return t
    return None


def first_overtaken(forms: Forms, pieces: Iterable[Piece[Sites]], convention: Convention) -> int | None:
    """The first t whose attention costs at least as much as all else."""
    for piece in pieces:
        sites = run_sites(forms, piece.value, convention, 1).items()
        attention = add_flops(forms, (pair for pair in sites if is_attention(pair[0])), convention)
        rest = add_flops(forms, (pair for pair in sites if not is_attention(pair[0])), convention)
        found = first_at_least_zero(attention - rest, piece.lo, piece.hi)
        if found is not None:
            return found
    return None


def find_crossover(count: Count) -> Crossover:
    """Of the model of `count`, by a cache that keeps every row that its own would.

    The encoder's work is no part of it: it does not grow with the text."""
    spec = parse_spec(count.cache)
    whole = spec.name in ("none", "dynamic", "static")
    forms = Forms(count.config, f"static:{FARTHEST}" if whole else count.cache, count.dtype, FARTHEST, count.source)
    prompts = list(forms.first(1, FARTHEST))

    decode = first_overtaken(forms, forms.first(1, 1), "causal")  # one token, and nothing before it
    if decode is None:
        seen = first_overtaken(forms, forms.next(1, FARTHEST - 1), "causal")
        decode = None if seen is None else seen + 1
    return Crossover(
        decode,
        {convention: first_overtaken(forms, prompts, convention) for convention in CONVENTIONS},
    )
