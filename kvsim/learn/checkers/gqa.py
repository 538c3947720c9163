"""10: attention of H query heads over G heads of keys and values, and what is kept of these."""

from dataclasses import replace
from typing import Any

import numpy as np

from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.public.models import find_config
from kvsim.learn.answers import Answer
from kvsim.learn.checking import Given
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.subject.calls import Problem, UnreadableError, to_host

HEADS = ((6, 2), (4, 1), (8, 4), (3, 3))  # (H, G)
D_HEAD = 4
CHUNKS = (3, 1, 2)  # tokens whose keys and values come together
MODEL, KV_HEADS = "llama-3.1-8b", (32, 8, 1)  # of the predictions
AXES = "kv_heads, tokens, d_head"
SAME = 1e-5  # rows of different tokens differ by much more


def facts(seed: int) -> dict[str, Any]:
    """The tokens of the predictions."""
    return {"n": 100 * (5 + seed % 15)}


def measure(kv_heads: int, tokens: int) -> int:
    """Bytes of keys and values in one layer."""
    config = find_config(MODEL)[1]
    one = replace(config, n_layers=1, layers=config.layers[:1], n_kv_heads=kv_heads)
    return measure_memory(one, [tokens], dtype="float16").contexts[0].logical


def answers(seed: int) -> dict[str, Answer]:
    """Bytes in one layer, for each number of heads of keys and values."""
    every, grouped, one = (measure(count, facts(seed)["n"]) for count in KV_HEADS)
    return {
        "bytes_32_kv_heads": Answer(every, {"one_of_two": every // 2}),
        "bytes_8_kv_heads": Answer(grouped, {"one_of_two": grouped // 2, "query_heads_counted": every}),
        "bytes_1_kv_head": Answer(one, {"one_of_two": one // 2, "query_heads_counted": every}),
    }


def check(given: Given) -> None:
    """OracleError: other rows are kept than those that came, or attention is wrong."""
    generator = np.random.default_rng(given.seed)
    for heads, kv_heads in HEADS:
        check_kept(given, generator, heads, kv_heads)
    for heads, kv_heads in HEADS:
        check_attention(given, heads, kv_heads)


def check_attention(given: Given, heads: int, kv_heads: int) -> None:
    """OracleError: attention of the newest tokens is wrong. The older ones are kept before."""

    def attention(q: Any, k: Any, v: Any) -> Any:
        old, kept = k.shape[1] - q.shape[1], [None, None]
        for tokens in (slice(0, old), slice(old, None)):
            if k[:, tokens].size:
                kept = [keep(given, one, x[:, tokens], heads) for one, x in zip(kept, (k, v), strict=True)]
        return given.subject.call("attend", q, *kept)

    assert_attention(attention, "h t d", heads=heads, kv_heads=kv_heads, d_head=D_HEAD, seed=given.seed,
                     dtype=given.subject.dtype)  # fmt: skip


def keep(given: Given, kept: Any, rows: Any, heads: int) -> Any:
    """What the learner's function keeps, as an array. UnreadableError: it is none."""
    got = given.subject.call("append", kept, rows, heads)
    try:
        return np.asarray(to_host(np.asarray(got, float) if isinstance(got, list) else got)[0])
    except (TypeError, ValueError) as error:  # lists of unequal lengths
        raise UnreadableError("append gave {got}, expected an array", got=type(got).__name__) from error


def check_kept(given: Given, generator: Any, heads: int, kv_heads: int) -> None:
    """OracleError: after one of several chunks, other rows are kept than those that came so far."""
    chunks = [generator.standard_normal((kv_heads, n, D_HEAD)).astype(given.subject.dtype) for n in CHUNKS]
    kept = None
    for n, rows in enumerate(chunks, start=1):
        kept, wanted = keep(given, kept, rows, heads), np.concatenate(chunks[:n], axis=1)
        if same(kept, wanted):
            continue
        about = Problem("H = {heads}, G = {kv_heads}; tokens that came one chunk after another: {chunks}",
                        {"heads": heads, "kv_heads": kv_heads, "chunks": ", ".join(map(str, CHUNKS[:n]))})  # fmt: skip
        raise given.fail(describe(kept, wanted), *name_mistake(kept, wanted, chunks[:n], heads), notes=(about,))


def same(got: Any, wanted: Any) -> bool:
    """Whether two arrays have the same shape and numbers."""
    return bool(got.shape == wanted.shape and (np.abs(got - wanted) <= SAME).all())


def describe(kept: Any, wanted: Any) -> Problem:
    """What is wrong with the rows that are kept: their shape, else how many tokens have other numbers."""
    if kept.shape != wanted.shape:
        values = {"got": list(kept.shape), "axes": AXES, "expected": list(wanted.shape)}
        return Problem("append keeps an array of shape {got}, expected ({axes}) = {expected}", values)
    wrong = ~(np.abs(kept - wanted) <= SAME).all(axis=(0, 2))
    return Problem("append keeps other numbers than came: {wrong} of {count} tokens are wrong",
                   {"wrong": int(wrong.sum()), "count": len(wrong)})  # fmt: skip


def name_mistake(kept: Any, wanted: Any, chunks: list[Any], heads: int) -> list[str]:
    """The mistake that gives what is kept; none: it is not known."""
    repeated = [np.repeat(wanted, heads // len(wanted), axis=0), np.tile(wanted, (heads // len(wanted), 1, 1))]
    if any(same(kept, one) for one in repeated):
        return ["kept_after_repeat"]
    found = {"concat_prepends_new": np.concatenate(chunks[::-1], axis=1), "cache_overwritten": chunks[-1],
             "decode_does_not_append": chunks[0]}  # fmt: skip
    turned = ["concat_wrong_axis"] if same(np.sort(kept, axis=None), np.sort(wanted, axis=None)) else []
    return [id for id, one in found.items() if same(kept, one)][:1] or turned
