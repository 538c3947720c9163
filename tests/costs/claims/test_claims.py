"""The claims: pages in the repository are what the command prints; every figure and verdict once more, by hand.

Nothing here asks kvsim.costs: Llama-2-7B, GPT-2 and the others are written out from their sizes.
"""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.cli import run
from kvsim.costs.claims.claim import Decimal, decide, degree, list_claims, tell
from kvsim.views.terminal.claims import QUESTIONS
from tests.counting.closed_form import step_macs
from tests.models import demo

ROOT = Path(__file__).parent.parent.parent.parent
CLAIMS = {claim.id: claim for claim in list_claims()}
GIB = 2**30

# Llama-2-7B by hand
L, D, F, V, H, K = 32, 4096, 11008, 32000, 32, 128
LINEAR = L * (4 * D * D + 3 * D * F) + V * D  # multiply-accumulates a token, head included
WEIGHTS = 2 * V * D + L * (4 * D * D + 3 * D * F + 2 * D) + D
TOKEN = 2 * L * D * 2  # bytes of keys and values in FP16


def llama_step(new, stop):
    """Multiply-accumulates of a step in full squares."""
    return new * LINEAR + L * 2 * new * stop * D


def llama_useful(new, stop):
    return new * LINEAR + L * 2 * D * sum(range(stop - new + 1, stop + 1))


def run_macs(step, prompt, new, cached):
    stops = range(prompt, prompt + new)
    return sum(step(1 if cached and stop > prompt else stop, stop) for stop in stops)


def gpt2_like(layers, width, ff, vocab, gated):
    linear = layers * (4 * width * width + (3 if gated else 2) * width * ff)

    def square(new, stop):
        return new * (linear + vocab * width) + layers * 2 * new * stop * width

    def causal(new, stop):
        return new * (linear + vocab * width) + layers * 2 * width * sum(range(stop - new + 1, stop + 1))

    def last(new, stop):
        return causal(new, stop) - (new - 1) * vocab * width

    return {"square": square, "causal": causal, "last": last}


def ratios(model, prompt, new):
    return {
        name: Fraction(run_macs(s, prompt, new, False), run_macs(s, prompt, new, True)) for name, s in model.items()
    }


GPT2 = ratios(gpt2_like(12, 768, 3072, 50257, False), 5, 1000)
SMOL_MODEL = gpt2_like(24, 2048, 8192, 49152, True)
SMOL = ratios(SMOL_MODEL, 4, 300)
GPT2_SIZE = {
    n: (50257 + 1024) * d + layers * (12 * d * d + 13 * d) + 2 * d
    for n, layers, d in (("small", 12, 768), ("xl", 48, 1600))
}
FULL7 = [run_macs(llama_step, 1, 7, cached) for cached in (False, True)]
ATTENTION7 = L * 2 * D * (140 - 28)
RUN1000 = [run_macs(llama_step, 1, 1000, cached) for cached in (False, True)]
PREFILL = 2 * llama_step(1000, 1000)
INT8 = {}
for context in (4096, 32768):
    q = 64 * ((context - 128) // 64)
    numbers = L * D
    scales = L * H * (q // 64 * K + q * K // 64) * 2  # keys: a channel over 64 rows; values: a row over 64 channels
    INT8[context] = Fraction(2 * numbers * q + scales + (context - q) * TOKEN, context * TOKEN)
DEMO_PRODUCTS = 7 * (2 * 9 + 1)  # q, k, v, scores, context, output, gate, up, down in two layers, and the head


def saved(before, after):
    return Fraction(100 * (before - after), before)


HAND = {  # id: (values, verdict)
    "gpt2-size": (GPT2_SIZE, "rounded"),
    "cells-140": ({"cells": sum(n * n for n in range(1, 8)), "useful": 84}, "right"),
    "multiplications-140": ({"products": DEMO_PRODUCTS}, "wrong"),
    "sum-of-squares": ({"whole": 3, "step": 2}, "wrong"),
    "only-attention": ({"tokens": 7, "share": Fraction(100 * ATTENTION7, FULL7[0] - FULL7[1])}, "wrong"),
    "only-decoders": ({"whole": 2 * 6 * 200 * 768 * 2, "cross": 2 * 6 * 100 * 768 * 2}, "wrong"),
    "queries": ({"steps": 7, "rows": 21, "without": 84}, "right"),
    "saving-table": ({"steps": 7, "without": 140, "cells": 28, "flops": Fraction(*FULL7)}, "right"),
    "saving-last-step": ({
        "cells": Fraction(999, 10), "flops": saved(llama_step(1000, 1000), llama_step(1, 1000)),
        "useful": saved(llama_useful(1000, 1000), llama_useful(1, 1000)),
    }, "right"),
    "complexity": ({"step": 2, "step_cached": 1, "whole": 3, "whole_cached": 2}, "right"),
    "token-bytes": ({"token": TOKEN, "mib": Fraction(1, 2), "mb": Fraction(524288, 10**6)}, "rounded"),
    "token-flops": ({"short": Fraction(13_214_154_752 + 524_288, 10**9),
                     "long": Fraction(13_214_154_752 + 524_288 * 4096, 10**9), "context": 4096}, "wrong"),
    "prompt-bytes": ({"bytes": 1000 * TOKEN, "mib": 500, "mb": Fraction(524288, 1000)}, "rounded"),
    "prompt-flops": ({"square": Fraction(PREFILL, 10**12), "useful": Fraction(2 * llama_useful(1000, 1000), 10**12)},
                     "rounded"),
    "a10-memory": ({"nominal": 24 * 10**9, "usable": 23_609_475_072, "gib": Fraction(23_609_475_072, GIB)}, "rounded"),
    "weights-fp32": ({"full": Fraction(4 * WEIGHTS, 10**9), "half": Fraction(13_476_831_232, 10**9)}, "wrong"),
    "a10-rest": ({"rest": Fraction(24 * 10**9 - 13_476_831_232, 10**9)}, "rounded"),
    "a10-tokens": ({"nominal": 20_071, "binary": 23_446}, "rounded"),
    "a10-requests": ({"nominal": 4, "binary": 5, "tight": (21_600_000_000 - 2 * WEIGHTS) // TOKEN // 4096}, "wrong"),
    "formula-product": ({"bytes": 2 * 1 * 4096 * 32 * 32 * 128 * 2}, "right"),
    "formula-unit": ({"gib": 2, "gb": Fraction(2_147_483_648, 10**9)}, "wrong"),
    "formula-heads": ({"kept": 327_680, "queries": 2 * 80 * 64 * 128 * 2}, "wrong"),
    "turns-memory": ({"degree": 1}, "right"),
    "turns-work": ({"with_cache": 2, "without": 3}, "wrong"),
    "speedup": ({"with_cache": Fraction(11_885, 1000), "without": Fraction(56_197, 1000),
                 "speedup": Fraction(56_197, 11_885), **GPT2}, "wrong"),
    "listing-loop": ({"fed": 7, "prompt": 4, "seen": 7}, "wrong"),
    "every-layer": ({"layers": 2, "different": 2, "layer": 2 * 32 * 128 * 2, "many": 32}, "right"),
    "phases": ({"prefill": Fraction(PREFILL, 2 * WEIGHTS + 1000 * TOKEN), "tokens": 1000,
                "decode": Fraction(2 * llama_step(1, 1001), 2 * WEIGHTS + 1001 * TOKEN),
                "ridge": Fraction(125_000, 600)}, "right"),
    "decode-reads": ({"weights": Fraction(2 * WEIGHTS, 10**9), "cache": Fraction(4096 * TOKEN, 10**9), "context": 4096,
                      "tokens": 25_706}, "wrong"),
    "contexts": ({"short": Fraction(2**31, 10**9), "middle": Fraction(2**34, 10**9), "long": Fraction(2**36, 10**9),
                  "gib": 64}, "wrong"),
    "context-limit": ({"bytes": 10**9 * TOKEN, "positions": 4096}, "right"),
    "training": ({"tokens": 7, "useful": 28, "steps": 7, "cached": 28}, "right"),
    "models": ({"families": 29, "encoders": 14}, "right"),
    "first-token": ({"tokens": 1000, "flops": PREFILL, "without": PREFILL}, "right"),
    "larger-than-weights": ({"tokens": 25_706, "times": Fraction(2**36, 2 * WEIGHTS)}, "right"),
    "shared-heads": ({"heads": 71, "one": 2 * 32 * 64 * 2, "each": 71 * 2 * 32 * 64 * 2, "share": Fraction(7000, 71)},
                     "right"),
    "int8": ({"short": INT8[4096], "long": INT8[32768], "context": 4096, "longer": 32768}, "wrong"),
    "window": ({"window": 4096, "rows": 4095}, "rounded"),
    "saving-whole-run": ({"cells": saved(333_833_500, 500_500), "flops": saved(*RUN1000)}, "wrong"),
    "article-speedup": ({"speedup": Fraction(610, 117), **SMOL}, "rounded"),
    "article-axis": ({"axis": 2}, "wrong"),
    "article-long": ({"flops": Fraction(SMOL_MODEL["square"](1, 8192), SMOL_MODEL["square"](1, 2)),
                      "bytes": 8190 * 2 * 24 * 2048 * 2}, "wrong"),
}  # fmt: skip


def exactly(value):
    return value.value if isinstance(value, Decimal) else value


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_by_hand(name):
    values, verdict = HAND[name]
    found = {key: exactly(value) for key, value in CLAIMS[name].values.items()}
    if name == "multiplications-140":
        values = {**values, "macs": sum(sum(step_macs(demo().config, n, n).values()) for n in range(1, 8))}
    assert found == values
    assert CLAIMS[name].verdict == verdict


def test_every_claim_has_a_hand():
    assert set(HAND) == set(CLAIMS)
    assert set(QUESTIONS) <= set(CLAIMS)


def test_figures_that_were_published():
    """The table of slips: what must come out, as it is printed."""
    told = {f"{name}/{key}": tell(value) for name, c in CLAIMS.items() for key, value in c.values.items()}
    assert told["saving-table/flops"] == "4.00"
    assert told["saving-last-step/useful"] == "99.898"
    assert (told["saving-whole-run/cells"], told["saving-whole-run/flops"][:4]) == ("99.850", "99.8")
    assert (told["weights-fp32/full"], told["weights-fp32/half"]) == ("26.954", "13.477")
    assert (told["token-flops/short"], told["token-flops/long"]) == ("13.215", "15.362")
    assert told["speedup/speedup"] == "4.73"
    assert (told["speedup/square"], told["speedup/last"]) == ("514.1", "345.5")
    assert (told["a10-tokens/nominal"], told["a10-tokens/binary"]) == ("20,071", "23,446")


@pytest.mark.parametrize(("language", "page"), [("en", "claims.md"), ("zh", "claims.zh-CN.md")])
def test_the_page_is_what_the_command_prints(language, page, capsys):
    assert run(["claims", "--lang", language]) == 0
    assert capsys.readouterr().out == (ROOT / "examples" / page).read_text(encoding="utf-8")


def test_json(capsys):
    assert run(["claims", "--json", "--lang", "zh"]) == 0
    out = capsys.readouterr().out
    schema = json.loads((Path(kvsim.__file__).parent / "schemas" / "claims-1.json").read_text(encoding="utf-8"))
    told = json.loads(out)
    jsonschema.validate(told, schema)
    assert out.count("\n") == 1
    assert [claim["id"] for claim in told["claims"]] == list(CLAIMS)
    assert all("{" not in claim["exact"] + claim["claim"] for claim in told["claims"])
    fractions = {c["id"]: c["values"] for c in told["claims"]}
    assert fractions["speedup"]["speedup"] == {"numerator": 56_197, "denominator": 11_885}


def test_claims_say_every_value_they_compute():
    for claim in CLAIMS.values():
        assert all(f"{{{name}}}" in claim.exact for name in claim.values), claim.id
        assert bool(claim.said) == ("{said}" in claim.claim), claim.id


@pytest.mark.parametrize(
    ("said", "exact", "verdict"),
    [
        (140, 140, "right"),
        ("0.1", Fraction(1, 10), "right"),
        (95, 100, "rounded"),
        (105, 100, "rounded"),
        (94, 100, "wrong"),
        ("105.1", 100, "wrong"),
        (1, 0, "wrong"),
    ],
)
def test_verdicts(said, exact, verdict):
    assert decide(said, exact) == verdict


def test_degree():
    assert [degree([n**k for n in range(1, 8)]) for k in (0, 1, 2, 3)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="too few"):
        degree([2**n for n in range(7)])


def test_decimals_round_half_up():
    told = [str(Decimal(Fraction(*f), p)) for *f, p in ((1, 2, 0), (1, 8, 2), (12_345, 1, 1), (2, 3, 3), (-3, 2, 1))]
    assert told == ["1", "0.13", "12,345.0", "0.667", "-1.5"]


def test_the_command_as_a_process():
    done = subprocess.run([sys.executable, "-m", "kvsim", "claims", "--lang", "en"], capture_output=True, check=True)
    assert done.stdout == (ROOT / "examples" / "claims.md").read_bytes()
