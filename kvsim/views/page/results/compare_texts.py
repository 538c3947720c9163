"""The texts of the page that compares caches."""

from kvsim.comparisons.policies import MAX_ROWS
from kvsim.i18n.language import Say


def compare_keys(say: Say) -> list[tuple[str, str]]:
    """The page's own keys, and what each does."""
    return [
        ("↑ ↓ ← →", say("inside a grid: from cell to cell; Tab enters and leaves it")),
        ("[ ]", say("layer before and after")),
        (", .", say("head before and after")),
    ]


def compare_texts(say: Say) -> dict[str, str]:
    """Each text that the modules of this page show, by its key."""
    return {**_stage(say), **_cells(say), **_tables(say)}


def _stage(say: Say) -> dict[str, str]:
    return {
        "heading": say("The same tokens through several caches: which rows each one keeps, and what its logits lose"),
        "title": say("Caches compared, step by step: {text}"),
        "sentence": say("Step {step} of {last}: {fed} is fed. Layer {layer}, KV head {head}: {runs}"),
        "sentence_alone": say("Step {step} of {last}: {fed} is fed. No cache is compared with the reference."),
        "sentence_run": say("{cache} holds {rows} of {all} rows, evicts {evicted}, and {choice}."),
        "sentence_bytes": say("{cache} holds {bytes} B, and {choice}."),
        "chooses_same": say("chooses {token}, as the reference does"),
        "chooses_other": say("chooses {token}, which the reference does not"),
        "tab_rows": say("Rows"),
        "tab_logits": say("Logits"),
        "tab_memory": say("Memory"),
        "layer": say("layer"),
        "head": say("KV head"),
        "rows_of": say("{rows} / {all} rows"),
        "holds": say("{held} B held, {allocated} B allocated, {metadata} B of metadata"),
        "lossy": say("lossy"),
        "lossless": say("lossless"),
        "grid": say("{cache}: rows after every step"),
        "now": say("now"),
        "state_cached": say("kept"),
        "state_key": say("new, kept"),
        "state_masked": say("evicted in the step"),
        "state_zero": say("evicted before"),
        "state_later": say("not fed yet"),
        "kl_legend": say(
            "Below: KL of each position, on one logarithmic scale of four decades; filled: another choice than the"
            " reference's"
        ),
        "kl_bars": say("{cache}: KL of each position, at most {most} nats"),
        "area": say("{kept} rows are kept, {evicted} are evicted in this step"),
        "untold": say("This cache does not tell which rows it holds."),
        "too_many": say(
            "More than {n} rows over all caches, layers and heads: which of them are kept is left out."
        ).format(n=f"{MAX_ROWS:,}"),
        "nothing": say("No cache is compared with the reference."),
    }


def _cells(say: Say) -> dict[str, str]:
    return {
        "inspector": say("the cell in focus"),
        "cell": say("Row of {token} in {cache}"),
        "cell_count": say("Rows of {cache} after step {step}"),
        "in_layer": say("layer {layer}, KV head {head}"),
        "at_position": say("position {position}"),
        "after_step": say("after step {step}"),
        "fed_at": say("fed in step {step}"),
        "left_at": say("evicted in step {step}"),
        "to_the_end": say("held to the end"),
        "count": say("{rows} of {all} rows held"),
        "divergence_at": say("KL at this position: {divergence} nats"),
    }


def _tables(say: Say) -> dict[str, str]:
    return {
        "step": say("step"),
        "summary": say("All steps"),
        "cache": say("cache"),
        "held": say("held, B"),
        "allocated": say("allocated, B"),
        "metadata": say("metadata, B"),
        "macs": say("MACs"),
        "diff": say("diff"),
        "mean_kl": say("mean KL"),
        "largest_kl": say("largest KL"),
        "same_choice": say("same choice"),
        "new_choice": say("of new"),
        "first_change": say("first change"),
        "reference": say("reference"),
        "positions": say("Every position: KL in nats, and the most likely next token"),
        "position": say("position"),
        "token": say("token"),
        "memory_of": say("{cache}: bytes after each step"),
        "series_held": say("held by rows in use"),
        "series_allocated": say("allocated"),
        "series_reference": say("held by the reference"),
        "memory_note": say("K and V of all layers and KV heads, one scale for all caches."),
    }
