"""Claims about time and about listings (sections 22.6 and 22.7, the article). Times are published ones: inputs."""

from fractions import Fraction

from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.claims.bytes import CONTEXT, held
from kvsim.costs.claims.claim import Claim, Decimal, decide, decide_fact, ratio, units
from kvsim.costs.claims.work import LLAMA, LONG, demo_trace
from kvsim.costs.public.devices import find_device
from kvsim.costs.public.models import find_config
from kvsim.costs.work.counter import count
from kvsim.errors import Words
from kvsim.loading.loader import load

GPT2_SECONDS = (Fraction("11.885"), Fraction("56.197"))  # published: with and without a cache, on a T4
ARTICLE_SECONDS = (Fraction("11.7"), Fraction(61))
GPT2_PROMPT = 5  # tokens of "What is KV caching?" or so: the ratio hardly depends on it
ARTICLE_PROMPT = 4  # "The red cat was"


def work_ratios(model: str, prompt: int, new: int) -> dict[str, Fraction]:
    """FLOPs without a cache over those with one, by convention: `square`, all that full matrices execute; `causal`, the
    pairs that causality admits; `last`, the same with the head on the last position of each step only."""
    head = count(model, prompt=1).by("kind")["head"].macs
    found = {}
    for spec in ("none", "dynamic"):
        run = count(model, prompt=prompt, new=new, cache=spec)
        last = run.useful_macs - run.by("kind")["head"].macs + new * head
        found[spec] = {"square": run.macs, "causal": run.useful_macs, "last": last}
    return {name: Fraction(macs, found["dynamic"][name]) for name, macs in found["none"].items()}


def tell_ratios(ratios: dict[str, Fraction]) -> dict[str, Decimal]:
    """With one decimal."""
    return {name: ratio(value, 1, 1) for name, value in ratios.items()}


def list_time() -> list[Claim]:
    """In no order."""
    return [*list_measured(), *list_listings(), *list_phases()]


def list_measured() -> list[Claim]:
    with_cache, without = GPT2_SECONDS
    gpt2 = work_ratios("gpt2", GPT2_PROMPT, LONG)
    article = work_ratios("smollm2-1.7b", ARTICLE_PROMPT, 300)
    speedup = ARTICLE_SECONDS[1] / ARTICLE_SECONDS[0]
    return [
        Claim(
            "speedup", "22.6.1", Words("A cache makes GPT-2 more than {said} times as fast (11 s against 56 s)"), "5",
            Words("Published times on a T4, {with_cache} s and {without} s: {speedup} times. The FLOPs' ratio is"
                  " {square} (full squares), {causal} (causal pairs) or {last} (and the head on one position): decoding"
                  " does not wait for FLOPs."),
            {"with_cache": ratio(with_cache, 1, 3), "without": ratio(without, 1, 3),
             "speedup": ratio(without, with_cache, 2), **tell_ratios(gpt2)},
            decide(5, without / with_cache),
        ),
        Claim(
            "article-speedup", "HF", Words("SmolLM2-1.7B is {said} times as fast (11.7 s against 61 s)"), "5.21",
            Words("Published times on a T4: {speedup} times. The FLOPs' ratio is {square} (full squares),"
                  " {causal} (causal pairs) or {last} (and the head on one position)."),
            {"speedup": ratio(speedup, 1, 4), **tell_ratios(article)},
            decide("5.21", speedup),
        ),
    ]  # fmt: skip


def list_listings() -> list[Claim]:
    run = demo_trace()
    fed, prompt = len(run.fed), len(run.prompt)
    model = load("demo")
    cache = model.new_cache("dynamic")
    model([piece.id for piece in run.fed], cache)
    axis = 1 + tuple(cache.layers[0].keys.shape).index(fed)  # behind the batch's
    near, far = (count("smollm2-1.7b", prompt=n, new=2).step(2).flops for n in (1, 8_191))
    return [
        Claim(
            "listing-loop", "22.6.3", Words("The decoding loop reads the caches and goes on"), "",
            Words("It never appends the new keys and values, and gives every layer the token instead of the layer"
                  " below's output. Of the {fed} tokens in this example its caches would hold {prompt}; {seen} are"
                  " needed."),
            {"fed": fed, "prompt": prompt, "seen": cache.seen}, decide(prompt, cache.seen),
        ),
        Claim(
            "article-axis", "HF", Words("New rows are joined on axis {said}"), "1",
            Words("On axis {axis} of [batch, heads, tokens, size], where transformers keeps them; on axis 1 of [batch,"
                  " tokens, heads, size]."),
            {"axis": axis}, decide(1, axis),
        ),
        Claim(
            "article-long", "HF", Words("With a cache a step stays as fast as the text grows"), "",
            Words("A step of SmolLM2-1.7B at context 8,192 takes {flops} times the FLOPs of one at context 2, and reads"
                  " {bytes} B of cache more."),
            {"flops": ratio(far, near, 2), "bytes": held(8_192, model="smollm2-1.7b")
             - held(2, model="smollm2-1.7b")},
            decide(1, Fraction(far, near)),
        ),
    ]  # fmt: skip


def list_phases() -> list[Claim]:
    model = load("demo")
    cache = model.new_cache("dynamic")
    model([piece.id for piece in demo_trace().fed], cache)
    kept = {layer.keys.tobytes() for layer in cache.layers}
    a10 = find_device("a10")
    many = find_config(LLAMA)[1].n_layers
    ridge = Fraction(a10.peak("float16"), a10.bandwidth)
    weights = measure_memory(LLAMA, [], dtype="float16").weight_bytes
    prefill = Fraction(count(LLAMA, prompt=LONG).flops, weights + held(LONG))
    decode = Fraction(count(LLAMA, prompt=LONG, new=2).step(2).flops, weights + held(LONG + 1))
    return [
        Claim(
            "phases", "22.7.1", Words("Prefill is bound by compute, decoding by memory traffic"), "",
            Words("FLOPs for each byte of weights and cache, Llama-2-7B in FP16: {prefill} for a prompt of {tokens},"
                  " {decode} for the next token; an A10 balances at {ridge}."),
            {"prefill": ratio(prefill, 1, 1), "tokens": LONG, "decode": ratio(decode, 1, 2),
             "ridge": ratio(ridge, 1, 1)},
            decide_fact(decode < ridge < prefill),
        ),
        Claim(
            "decode-reads", "22.7.2", Words("Most of a decoding step is reading the cache"), "",
            Words("Of one sequence the weights: {weights} GB against {cache} GB of cache at context {context}. The"
                  " cache is more from {tokens} tokens on, or as many in a batch."),
            {"weights": units(weights, 10**9), "cache": units(held(CONTEXT), 10**9), "context": CONTEXT,
             "tokens": weights // held(1) + 1},
            decide_fact(held(CONTEXT) > weights),
        ),
        Claim(
            "every-layer", "22.6.4", Words("Every layer keeps keys and values of its own"), "",
            Words("The {layers} layers of the demo model hold {different} different sets of keys; Llama-2-7B keeps"
                  " {layer} B a token in each of its {many}."),
            {"layers": model.config.n_layers, "different": len(kept), "many": many, "layer": held(1) // many},
            decide_fact(len(kept) == model.config.n_layers),
        ),
    ]  # fmt: skip
