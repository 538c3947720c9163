"""The texts of a trace's page."""

from kvsim.comparisons.trace_values import MAX_NUMBERS, MAX_TOKENS
from kvsim.i18n.language import Say


def trace_keys(say: Say) -> list[tuple[str, str]]:
    """The page's own keys, and what each does."""
    return [
        ("↑ ↓ ← →", say("inside a grid: from cell to cell; Tab enters and leaves it")),
        ("[ ]", say("layer before and after")),
        (", .", say("head before and after")),
    ]


def trace_texts(say: Say) -> dict[str, str]:
    """Each text that the modules of a trace's page show, by its key."""
    return {**_top(say), **_stage(say), **_cells(say), **_tables(say), **_charts(say)}


def _top(say: Say) -> dict[str, str]:
    return {
        "heading": say("The same text, twice: keys and values computed again at every step, or kept in a cache"),
        "title": say("KV cache, step by step: {text}"),
        "of": say("of {total}"),
        "cells_so_far": say("score cells of QKᵀ so far, for each head of each layer"),
        "sentence": say(
            "Step {step} of {last}: {fed} is fed and {next} comes out. Without a cache {before} score cells and"
            " {rows_before} rows of Q, K and V are computed; with one {after} and {rows_after}."
        ),
        "tab_cells": say("Cells"),
        "tab_memory": say("Memory"),
        "tab_cost": say("Cost"),
    }


def _stage(say: Say) -> dict[str, str]:
    return {
        "layer": say("layer"),
        "head": say("attention head"),
        "no_cache": say("Without a cache"),
        "cached": say("With a cache"),
        "no_cache_short": say("without"),
        "cached_short": say("with"),
        "note_no_cache": say("Q, K, V are computed for all {rows} tokens, of which new: {new}."),
        "note_first": say("The cache is still empty: Q, K and V are computed for all tokens."),
        "note_cached": say("Q, K, V are computed for {rows} of {all} tokens; K, V of {kept} come from the cache."),
        "scores": say("scores"),
        "probs": say("probabilities and output"),
        "grid_scores": say("{run}: queries, keys and scores"),
        "grid_probs": say("{run}: values, probabilities and output"),
        "ghost": say("not computed again"),
        "area": say("{cells} score cells, of which {masked} are masked; {cached} rows of K and V from the cache"),
        "state_cached": say("from the cache"),
        "state_key": say("new K"),
        "state_value": say("new V"),
        "state_masked": say("masked"),
        "state_calc": say("computed"),
        "left_out_tokens": say("More than {n} tokens: the values are left out; shapes and counts are complete.").format(
            n=MAX_TOKENS
        ),
        "left_out_numbers": say("More than {n} values: they are left out; shapes and counts are complete.").format(
            n=f"{MAX_NUMBERS:,}"
        ),
        "left_out_option": say(
            "The values were not recorded: use kvsim.trace(…, values=True). Shapes and counts are complete."
        ),
    }


def _cells(say: Say) -> dict[str, str]:
    return {
        "inspector": say("the cell in focus"),
        "cell_scores": say("Score: query {q} with key {s}"),
        "cell_probs": say("Probability: how much {q} attends to {s}"),
        "cell_query": say("Query of {q}"),
        "cell_context": say("Output of {q}: the values, weighted"),
        "cell_key": say("Key of {s}"),
        "cell_value": say("Value of {s}"),
        "in_layer": say("layer {layer}, head {head}"),
        "query_at": say("query at position {position}"),
        "key_at": say("key at position {position}"),
        "masked_later": say("Computed, then masked: the key comes after the query."),
        "masked_window": say("Computed, then masked: the key lies before the window."),
        "zero": say("Masked, so the probability is 0."),
        "rounded": say("Values are shown to four digits: scale × (q·k), element by element."),
        "prob_says": say("{share} of the output of {q} is the value of {s}."),
        "elements": say("{n} elements"),
        "from_cache": say("Not computed in this step: read from the cache."),
        "made_at": say("made in step {step}"),
        "computed_now": say("Computed in this step."),
        "shape": say("A row of {shape}, {bytes} B."),
    }


def _tables(say: Say) -> dict[str, str]:
    return {
        "cost_of_step": say("What the step costs"),
        "this_step": say("this step"),
        "so_far": say("so far"),
        "score_cells": say("score cells"),
        "projected_rows": say("Q, K, V rows"),
        "macs": say("MACs"),
        "kv_bytes": say("KV cache"),
        "all_steps": say("All steps"),
        "sequence": say("sequence"),
        "next_token": say("next"),
        "no_cache_column": say("no cache Q×K"),
        "cached_column": say("cached q×K"),
        "saved": say("saved"),
        "rows_column": say("QKV rows"),
        "total": say("total"),
        "print_step": say("{step}: {fed} → {next}"),
    }


def _charts(say: Say) -> dict[str, str]:
    return {
        "memory_title": say("Bytes of the KV cache after each step"),
        "held": say("held by rows in use"),
        "allocated": say("allocated"),
        "wasted": say("allocated, not in use"),
        "without": say("without a cache"),
        "memory_note": say("K and V of all layers and KV heads. Without a cache nothing stays after a step."),
        "flops_title": say("FLOPs of each step, whole model"),
        "read_title": say("Bytes of K and V read from the cache in each step"),
        "kv_read": say("read from the cache"),
        "kinds_title": say("MACs of step {step} by kind of product, all layers"),
        "phases": say("Prompt and new tokens"),
        "prefill": say("prefill: the prompt"),
        "decode": say("decode: new tokens"),
        "steps": say("steps"),
        "tokens": say("tokens"),
        "no_cache_flops": say("FLOPs without a cache"),
        "cached_flops": say("FLOPs with a cache"),
    }
