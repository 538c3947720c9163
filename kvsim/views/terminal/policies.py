"""What `kvsim compare` prints."""

from kvsim.comparisons.policies_record import PolicyComparison, PolicyRun
from kvsim.i18n.language import Say, plain
from kvsim.i18n.printable import printable
from kvsim.views.terminal.screen import ANYWHERE, Screen
from kvsim.views.terminal.sheet import Column, Part, Sheet
from kvsim.views.terminal.table import lay_out
from kvsim.views.terminal.text import number


def measured(value: float) -> str:
    """A measured number with two significant digits, always of the same width."""
    return f"{value:.1e}"


def _costs(run: PolicyRun) -> list[str]:
    """Bytes held, allocated, and of metadata; MACs."""
    return [number(n) for n in (run.logical_bytes, run.allocated_bytes, run.metadata_bytes, run.counts.macs)]


def _closeness(comparison: PolicyComparison, run: PolicyRun) -> list[str]:
    """How far the logits and choices of `run` are from the reference's."""
    everywhere, new = comparison.all_of(run), comparison.new_of(run)
    return [
        measured(everywhere.max_abs_diff),
        measured(comparison.relative(everywhere.max_abs_diff)),
        measured(everywhere.mean_divergence),
        measured(everywhere.largest_divergence),
        f"{number(everywhere.same_choices)}/{number(everywhere.positions)}",
        f"{number(new.same_choices)}/{number(new.positions)}",
        "-" if run.first_change is None else number(run.first_change),
    ]


def heading(comparison: PolicyComparison, say: Say) -> str:
    """The model, the dtype, and the tokens that every cache is fed."""
    model = say("model {name} (layers {layers}, heads {heads} / KV heads {kv_heads}, d_head {d_head})")
    fed = say("{dtype}, tokens: {prompt} of the prompt (--feed {feed}) and {new} of the reference's choices")
    tokens = fed.format(
        dtype=comparison.dtype, prompt=len(comparison.prompt), feed=comparison.feed, new=len(comparison.new) - 1
    )
    return printable(model.format(**comparison.model)) + "   " + tokens


def notes(comparison: PolicyComparison, say: Say) -> list[str]:
    """The reference, the meaning of the columns, and failed checks."""
    lines = [
        say(
            "The reference is the cache {reference} in the same dtype, which keeps every row. Every cache is fed the"
            " same tokens, and logits are compared at every position."
        ).format(reference=comparison.reference.cache),
        say(
            "Diff: largest difference of a logit; relative: the same over max|logit|, {largest}. KL: KL(reference ||"
            " cache) of the next token, in nats. Same choice: positions whose most likely next token is the"
            " reference's, of all and of those that choose new tokens; first change: position of the first token,"
            " from 0, that would be a different one."
        ).format(largest=f"{comparison.largest_logit:.3g}"),
    ]
    for run in comparison.runs:
        if not run.lossless or run.agrees:
            continue
        if comparison.by_length is not None:
            line = say("{cache} differs by design: {kind} positions depend on how the tokens are cut into steps.")
        else:
            line = say("CHECK FAILED: {cache} is lossless, but differs by more than {dtype} allows.")
        lines.append(line.format(cache=run.cache, kind=comparison.by_length, dtype=comparison.dtype))
    return lines


def comparison_parts(comparison: PolicyComparison, say: Say) -> list[Part]:
    """Heading, a table of the reference and the caches, notes."""
    names = {
        "held": say("held, B"), "allocated": say("allocated, B"), "metadata": say("metadata, B"), "macs": say("MACs"),
        "diff": say("diff"), "relative": say("relative"), "mean_kl": say("mean KL"), "largest_kl": say("largest KL"),
        "same_choice": say("same choice"), "new_choice": say("of new"), "first_change": say("first change"),
    }  # fmt: skip
    columns = [Column("cache", say("cache"), "left"), Column("logits", say("logits"), "left")]
    table = Sheet("compare", [*columns, *(Column(key, name) for key, name in names.items())])
    table.add(comparison.reference.cache, say("reference"), *_costs(comparison.reference))
    for run in comparison.runs:
        kind = say("lossless") if run.lossless else say("lossy")
        table.add(run.cache, kind, *_costs(run), *_closeness(comparison, run))
    return [heading(comparison, say), table, *notes(comparison, say)]


def format_comparison(comparison: PolicyComparison, say: Say, screen: Screen = ANYWHERE) -> str:
    """The output of `kvsim compare`."""
    say = plain(say) if screen.ascii_only else say
    return lay_out(comparison_parts(comparison, say), say, screen)
