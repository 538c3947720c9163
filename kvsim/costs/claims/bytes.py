"""Claims about memory: bytes a token, what fits a device, formula and figures (sections 22.4, 22.8, 22.9)."""

from dataclasses import replace
from fractions import Fraction

from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.claims.claim import Claim, decide, decide_fact, ratio, saved, units, worst
from kvsim.costs.claims.work import LLAMA, LONG
from kvsim.costs.public.devices import find_device
from kvsim.costs.public.models import find_config
from kvsim.costs.work.counter import count
from kvsim.errors import Words

GB, GIB, MIB = 10**9, 2**30, 2**20
CONTEXT = 4_096
LONGER = (32_768, 131_072)  # 32K, 128K


def held(context: int, cache_dtype: str = "float16", model: str = LLAMA) -> int:
    """Bytes of the cache of one sequence."""
    return measure_memory(model, [context], dtype="float16", cache_dtype=cache_dtype).contexts[0].logical


def list_bytes() -> list[Claim]:
    """In no order."""
    return [*list_token(), *list_device(), *list_formula(), *list_smaller()]


def list_token() -> list[Claim]:
    token, prompt = held(1), count(LLAMA, prompt=LONG)
    steps = [count(LLAMA, prompt=1).step(1).flops, count(LLAMA, prompt=CONTEXT - 1, new=2).step(2).flops]
    return [
        Claim(
            "token-bytes", "22.4.2", Words("Llama-7B keeps {said} MB a token"), "0.5",
            Words("{token} B: {mib} MiB (2²⁰), {mb} MB (10⁶)."),
            {"token": token, "mib": units(token, MIB), "mb": units(token, 10**6)},
            decide("0.5", Fraction(token, 10**6)),
        ),
        Claim(
            "token-flops", "22.4.2", Words("Llama-7B takes {said} GFLOPs a token"), "14",
            Words("{short} G at context 1, {long} G at context {context}."),
            {"short": units(steps[0], GB), "long": units(steps[1], GB), "context": CONTEXT},
            worst(*(decide(14, Fraction(flops, GB)) for flops in steps)),
        ),
        Claim(
            "prompt-bytes", "22.4.2", Words("1000 tokens keep {said} MB"), "500",
            Words("{bytes} B: {mib} MiB, {mb} MB."),
            {"bytes": held(LONG), "mib": units(held(LONG), MIB), "mb": units(held(LONG), 10**6)},
            decide(500, Fraction(held(LONG), 10**6)),
        ),
        Claim(
            "prompt-flops", "22.4.2", Words("1000 tokens take {said} TFLOPs"), "14",
            Words("{square} T in full squares of attention, {useful} T on the pairs that causality admits."),
            {"square": units(prompt.flops, 10**12), "useful": units(2 * prompt.useful_macs, 10**12)},
            worst(*(decide(14, Fraction(n, 10**12)) for n in (prompt.flops, 2 * prompt.useful_macs))),
        ),
    ]  # fmt: skip


def list_device() -> list[Claim]:
    a10, token = find_device("a10"), held(1)
    weights = {dtype: measure_memory(LLAMA, [], dtype=dtype).weight_bytes for dtype in ("float16", "float32")}
    tokens = {memory: (memory - weights["float16"]) // token for memory in (a10.nominal_bytes, 24 * GIB)}
    requests = [n // CONTEXT for n in tokens.values()]
    tight = (a10.nominal_bytes * 9 // 10 - weights["float16"]) // token // CONTEXT
    rest = a10.nominal_bytes - weights["float16"]
    assert a10.usable_bytes is not None
    return [
        Claim(
            "a10-memory", "22.4.3", Words("An A10 has {said} GB"), "24",
            Words("{nominal} B by its data sheet; a driver reports {usable} B, {gib} GiB."),
            {"nominal": a10.nominal_bytes, "usable": a10.usable_bytes, "gib": units(a10.usable_bytes, GIB)},
            decide(24, Fraction(a10.usable_bytes, GB)),
        ),
        Claim(
            "weights-fp32", "22.4.3", Words("The 7B model's weights take {said} GB in FP32"), "14",
            Words("FP32 takes {full} GB and does not fit; FP16 takes {half} GB."),
            {"full": units(weights["float32"], GB), "half": units(weights["float16"], GB)},
            decide(14, Fraction(weights["float32"], GB)),
        ),
        Claim(
            "a10-rest", "22.4.3", Words("{said} GB are left for the cache"), "10",
            Words("{rest} GB of 24·10⁹ B, beside FP16 weights and nothing else."), {"rest": units(rest, GB)},
            decide(10, Fraction(rest, GB)),
        ),
        Claim(
            "a10-tokens", "22.4.3", Words("That is room for {said} tokens"), "20000",
            Words("{nominal} with 24·10⁹ B, {binary} with 24 GiB."),
            {"nominal": tokens[a10.nominal_bytes], "binary": tokens[24 * GIB]},
            decide(20_000, tokens[a10.nominal_bytes]),
        ),
        Claim(
            "a10-requests", "22.4.3", Words("{said} requests of 4096 tokens fit"), "5",
            Words("{nominal} with 24·10⁹ B, {binary} only with all of 24 GiB, {tight} at 90 % of 24·10⁹ B."),
            {"nominal": requests[0], "binary": requests[1], "tight": tight}, decide(5, requests[0]),
        ),
    ]  # fmt: skip


def list_formula() -> list[Claim]:
    many = find_config("llama-2-70b-hf")[1]
    by_queries = 2 * many.n_layers * many.n_heads * many.d_head * 2
    kept = held(1, model="llama-2-70b-hf")
    contexts = [held(context) for context in (CONTEXT, *LONGER)]
    weights = measure_memory(LLAMA, [], dtype="float16").weight_bytes
    said = dict(zip(("2", "16", "64"), contexts, strict=True))
    return [
        Claim(
            "formula-product", "22.4.4", Words("The formula gives {said} B for Llama-7B at 4096 tokens"), "2147483648",
            Words("{bytes} B."), {"bytes": contexts[0]}, decide(2_147_483_648, contexts[0]),
        ),
        Claim(
            "formula-unit", "22.4.4", Words("That is {said} GB"), "2",
            Words("{gib} GiB (2³⁰), {gb} GB (10⁹)."),
            {"gib": units(contexts[0], GIB), "gb": units(contexts[0], GB)}, decide(2, Fraction(contexts[0], GB)),
        ),
        Claim(
            "formula-heads", "22.4.4", Words("The formula multiplies by the number of attention heads"), "",
            Words("By that of KV heads: Llama-2-70B keeps {kept} B a token, with all its heads it would be {queries};"
                  " of models without grouped heads both are the same."),
            {"kept": kept, "queries": by_queries}, decide(by_queries, kept),
        ),
        Claim(
            "contexts", "22.8.1", Words("4K, 32K and 128K tokens take {said} GB"), "2, 16, 64",
            Words("{short}, {middle} and {long} GB: the text's figures are GiB ({gib} the last)."),
            {"short": units(contexts[0], GB), "middle": units(contexts[1], GB), "long": units(contexts[2], GB),
             "gib": units(contexts[2], GIB)},
            worst(*(decide(figure, Fraction(n, GB)) for figure, n in said.items())),
        ),
        Claim(
            "context-limit", "22.8.1", Words("What limits the context is memory, not the mathematics"), "",
            Words("The cost of a token is exact at any length: at 10⁹ tokens Llama-2-7B would keep {bytes} B. What"
                  " limits it is the memory, and the {positions} positions that it was trained on."),
            {"bytes": held(10**9), "positions": find_config(LLAMA)[1].max_context},
            decide_fact(held(10**9) == 10**9 * held(1)),
        ),
        Claim(
            "larger-than-weights", "22.8.4", Words("At long contexts the cache outgrows the weights"), "",
            Words("From {tokens} tokens on, in FP16; at 131,072 it is {times} times the weights."),
            {"tokens": weights // held(1) + 1, "times": ratio(contexts[2], weights, 2)},
            decide_fact(contexts[2] > weights),
        ),
    ]  # fmt: skip


def list_smaller() -> list[Claim]:
    short, long = (Fraction(held(n, "int8"), held(n)) for n in (CONTEXT, LONGER[0]))
    falcon = find_config("falcon-7b")[1]
    one, each = (
        measure_memory(config, [1], dtype="float16").contexts[0].logical
        for config in (falcon, replace(falcon, n_kv_heads=falcon.n_heads))
    )
    mistral = find_config("mistral-7b-v0.1")[1]
    window = mistral.layers[0].window or 0
    rows = held(LONGER[1], model="mistral-7b-v0.1") // held(1, model="mistral-7b-v0.1")
    return [
        Claim(
            "shared-heads", "22.9.1", Words("Shared KV heads make the cache smaller"), "",
            Words("Falcon-7B keeps one head for {heads}: {one} B a token instead of {each}, saving {share} %."),
            {"heads": falcon.n_heads, "one": one, "each": each, "share": saved(each, one, 2)}, decide_fact(one < each),
        ),
        Claim(
            "int8", "22.9.2", Words("INT8 takes {said} of the bytes of FP16"), "0.5",
            Words("The payload; with scales, and the newest rows unquantised, {short} at {context} tokens and {long} at"
                  " {longer} (groups of 64)."),
            {"short": ratio(short, 1, 4), "long": ratio(long, 1, 4), "context": CONTEXT, "longer": LONGER[0]},
            decide("0.5", short),
        ),
        Claim(
            "window", "22.9.3", Words("A window of N keeps the last N rows"), "",
            Words("N - 1 suffice between steps, since the newest comes with its own: Mistral-7B's window of {window}"
                  " keeps {rows} rows at any longer context."),
            {"window": window, "rows": rows}, decide(window, rows),
        ),
    ]  # fmt: skip
