"""Claims about work: score cells, products, complexity (sections 22.1 to 22.3, 22.5, 22.8)."""

from functools import cache

from kvsim.comparisons.trace import trace
from kvsim.comparisons.trace_record import Trace
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.parameters import count_parameters
from kvsim.costs.claims.claim import Claim, decide, decide_fact, degree, ratio, saved
from kvsim.costs.public.models import find_config
from kvsim.costs.work.counter import count
from kvsim.counting.events import SCORES
from kvsim.errors import Words
from kvsim.loading.families import ENCODERS_ONLY, FAMILIES
from kvsim.loading.loader import load

LLAMA = "llama-2-7b-hf"
TEXT = "中华人民"  # the chapter's prompt
TOKENS = 7  # of its tables
LONG = 1_000  # tokens of its large figures


@cache
def demo_trace() -> Trace:
    """The chapter's table, run."""
    return trace(TEXT)


def cells(tokens: int, spec: str) -> int:
    """Score cells of one head and layer when `tokens` tokens are fed one by one."""
    unit = count(LLAMA, prompt=1).by("kind")[SCORES].macs
    return count(LLAMA, prompt=1, new=tokens, cache=spec).by("kind")[SCORES].macs // unit


def list_work() -> list[Claim]:
    """In no order."""
    return [*list_table(), *list_complexity(), *list_questions()]


def list_table() -> list[Claim]:
    run = demo_trace()
    plain, cached = run.totals.no_cache, run.totals.cached
    products = sum(len(step.no_cache.events) for step in run.steps)
    xl = count_parameters(find_config("gpt2-xl")[1])
    table = [(step.no_cache.counts.score_cells, step.cached.counts.score_cells) for step in run.steps]
    full, part = (count(LLAMA, prompt=1, new=TOKENS, cache=spec) for spec in ("none", "dynamic"))
    attention = sum(full.by("kind")[kind].macs - part.by("kind")[kind].macs for kind in (SCORES, "context"))
    last = saved(cells(LONG, "none") - cells(LONG - 1, "none"), cells(LONG, "dynamic") - cells(LONG - 1, "dynamic"))
    last_full = count(LLAMA, prompt=1, new=LONG, cache="none").step(LONG)
    last_part = count(LLAMA, prompt=1, new=LONG).step(LONG)
    return [
        Claim(
            "gpt2-size", "22.1.1", Words("GPT-2 has {said} billion parameters"), "1.5",
            Words("gpt2-xl has {xl}; the gpt2 that the chapter's listing loads has {small}."),
            {"xl": xl, "small": count_parameters(find_config("gpt2")[1])},
            decide(1_500_000_000, xl),
        ),
        Claim(
            "cells-140", "22.1.3", Words("Seven steps without a cache take {said} units"), "140",
            Words("{cells} score cells of QKᵀ for each head of each layer; causality needs {useful} of them."),
            {"cells": plain.score_cells, "useful": plain.useful_cells}, decide(140, plain.score_cells),
        ),
        Claim(
            "multiplications-140", "22.1.3", Words("These {said} are matrix multiplications"), "140",
            Words("The demo model runs {products} matrix products and {macs} multiply-accumulates in these steps."),
            {"products": products, "macs": plain.macs}, decide(140, products),
        ),
        Claim(
            "only-attention", "22.2.1", Words("A cache is there to speed up the two products of attention"), "",
            Words("Of the multiply-accumulates that it saves over {tokens} tokens of Llama-2-7B, {share} % are in these"
                  " two products; the others are in projections, feed-forward layers and the head."),
            {"tokens": TOKENS, "share": ratio(100 * attention, full.macs - part.macs, 3)},
            decide_fact(2 * attention > full.macs - part.macs),
        ),
        Claim(
            "queries", "22.2.2", Words("Queries need no cache: only the newest is used"), "",
            Words("All {steps} steps give the logits of a run without a cache, with {rows} projected rows against"
                  " {without}."),
            {"steps": len(run.steps), "rows": cached.projected_rows, "without": plain.projected_rows},
            decide_fact(all(step.agrees for step in run.steps)),
        ),
        Claim(
            "saving-table", "22.3.3", Words("Step n saves (n-1)/n: n² cells against n"), "",
            Words("So in all {steps} steps: {without} cells against {cells}. In FLOPs of Llama-2-7B, the whole model,"
                  " the ratio for {steps} tokens is {flops}."),
            {"steps": len(table), "without": plain.score_cells, "cells": cached.score_cells,
             "flops": ratio(full.flops, part.flops, 2)},
            decide_fact(all(pair == (n * n, n) for n, pair in enumerate(table, start=1))),
        ),
        Claim(
            "saving-last-step", "22.3.3", Words("At n = 1000, {said} % is saved"), "99.9",
            Words("Of the last step: {cells} % of the score cells, {flops} % of the FLOPs of Llama-2-7B ({useful} % of"
                  " the useful ones)."),
            {"cells": last, "flops": saved(last_full.flops, last_part.flops),
             "useful": saved(last_full.useful_macs, last_part.useful_macs)},
            decide("0.1", 100 - last.value),  # by what is left: 99.9 and 99 are far apart
        ),
    ]  # fmt: skip


def list_complexity() -> list[Claim]:
    lengths = range(1, 8)
    whole = {spec: degree([cells(n, spec) for n in lengths]) for spec in ("none", "dynamic")}
    step = {spec: degree([cells(n + 1, spec) - cells(n, spec) for n in lengths]) for spec in ("none", "dynamic")}
    run = {spec: cells(LONG, spec) for spec in ("none", "dynamic")}
    flops = [count(LLAMA, prompt=1, new=LONG, cache=spec).flops for spec in ("none", "dynamic")]
    held = [measure_memory(LLAMA, [n]).contexts[0].logical for n in lengths]
    return [
        Claim(
            "sum-of-squares", "22.1.3", Words("The sum over all steps is O(n^{said})"), "2",
            Words("1 + 4 + 9 + ... is a polynomial of degree {whole} in n; one step is of degree {step}."),
            {"whole": whole["none"], "step": step["none"]}, decide(2, whole["none"]),
        ),
        Claim(
            "complexity", "22.3.3",
            Words("A cache takes a step from O(n²) to O(n), and the sum from O(n³) to O(n²)"), "",
            Words("Degrees of the score cells in n, without and with a cache: {step} and {step_cached} for a step,"
                  " {whole} and {whole_cached} for the sum."),
            {"step": step["none"], "step_cached": step["dynamic"], "whole": whole["none"],
             "whole_cached": whole["dynamic"]},
            decide_fact((step["none"], step["dynamic"], whole["none"], whole["dynamic"]) == (2, 1, 3, 2)),
        ),
        Claim(
            "turns-memory", "22.5.3", Words("Memory grows linearly with the conversation"), "",
            Words("The cache's bytes are a polynomial of degree {degree} in the tokens."),
            {"degree": degree(held)}, decide_fact(degree(held) == 1),
        ),
        Claim(
            "turns-work", "22.5.3", Words("Reuse makes the work exponentially less"), "",
            Words("Polynomially: degree {with_cache} instead of {without}, so that the ratio grows like n."),
            {"with_cache": whole["dynamic"], "without": whole["none"]},
            decide_fact(max(whole.values()) > len(lengths) - 2),  # no polynomial would go through all lengths
        ),
        Claim(
            "saving-whole-run", "22.10.1", Words("Generating 1000 tokens saves {said} %"), "99.9",
            Words("Over the whole run {cells} % of the score cells and {flops} % of the FLOPs of Llama-2-7B."),
            {"cells": saved(run["none"], run["dynamic"]), "flops": saved(*flops)},
            decide("0.1", 100 - saved(run["none"], run["dynamic"]).value),
        ),
    ]  # fmt: skip


def list_questions() -> list[Claim]:
    """Why training needs no cache, which models have one, what it does for the first token."""
    model = load("demo")
    run = demo_trace()
    with model.count() as ledger:
        model([piece.id for piece in run.fed])
    first = [count(LLAMA, prompt=LONG, cache=spec).step(1).flops for spec in ("none", "dynamic")]
    crossing = measure_memory("bart-base", [100], dtype="float16", source=100).contexts[0]
    encoders = [family for family in ENCODERS_ONLY if family not in FAMILIES]
    return [
        Claim(
            "only-decoders", "22.2.1", Words("There is a cache in decoders only"), "",
            Words("Cross-attention's keys and values are kept too, and they come from the encoder: of bart-base's"
                  " {whole} B at 100 tokens and a source of 100 they are {cross}."),
            {"whole": crossing.logical, "cross": crossing.cross}, decide_fact(crossing.cross == 0),
        ),
        Claim(
            "training", "22.8.2", Words("Training needs no cache"), "",
            Words("All {tokens} targets are known, so that one pass computes every position: {useful} useful score"
                  " cells, as many as generating with a cache takes in {steps} steps ({cached}). Nothing is computed"
                  " twice."),
            {"tokens": len(run.fed), "useful": ledger.useful_cells(), "steps": len(run.steps),
             "cached": run.totals.cached.score_cells},
            decide_fact(ledger.useful_cells() == run.totals.cached.useful_cells),
        ),
        Claim(
            "models", "22.8.3", Words("Decoders and encoder-decoders have a cache; encoders like BERT need none"), "",
            Words("kvsim runs {families} families with a cache, and refuses {encoders} encoders, which generate"
                  " nothing."),
            {"families": len(FAMILIES), "encoders": len(encoders)},
            decide_fact("bert" in encoders and {"gpt2", "llama", "mistral", "gemma", "t5"} <= set(FAMILIES)),
        ),
        Claim(
            "first-token", "22.8.4", Words("A cache does not speed up the first token"), "",
            Words("The first step, {tokens} tokens through Llama-2-7B, takes {flops} FLOPs with a cache and {without}"
                  " without."),
            {"tokens": LONG, "flops": first[1], "without": first[0]}, decide_fact(first[0] == first[1]),
        ),
    ]  # fmt: skip
