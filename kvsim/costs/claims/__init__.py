"""Claims of two texts on KV caching, compared with what kvsim computes.

The texts: chapter 22 of W. Zhang's book on transformers (2026; waylandz.com/llm-transformer-book) and the article on KV
caching on Hugging Face (not-lain, 2025; huggingface.co/blog/not-lain/kv-caching). What a text says, including times
that it publishes, is an input (`said`). Everything else is computed, and so is the verdict.
"""

from typing import Any

from kvsim.costs.claims.bytes import list_bytes
from kvsim.costs.claims.claim import Claim
from kvsim.costs.claims.time import list_time
from kvsim.costs.claims.work import list_work
from kvsim.schemas import stamp


def list_claims() -> list[Claim]:
    """All claims, in the order of the texts: sections of the chapter, then the article."""

    def order(claim: Claim) -> tuple[bool, list[int]]:
        article = claim.section == "HF"
        return article, [] if article else [int(part) for part in claim.section.split(".")]

    return sorted([*list_work(), *list_bytes(), *list_time()], key=order)


def to_dict(claims: list[Claim]) -> dict[str, Any]:
    """The record of `kvsim claims --json` (see `kvsim schema claims`)."""
    return {**stamp("claims"), "claims": [_claim_dict(claim) for claim in claims]}


def _claim_dict(claim: Claim) -> dict[str, Any]:
    values = {
        name: value
        if isinstance(value, int)
        else {"numerator": value.value.numerator, "denominator": value.value.denominator}
        for name, value in claim.values.items()
    }
    return {
        "id": claim.id,
        "section": claim.section,
        "claim": claim.claim.format(said=claim.said),
        "said": claim.said,
        "exact": claim.exact.format(**claim.formatted),
        "values": values,
        "verdict": claim.verdict,
    }
