"""Limits on what a check computes with. Sizes beyond them are refused before anything is made of these sizes."""

from math import prod

from kvsim.errors import UsageError

NUMBERS = 2**26  # in one array, or in all weights together: 512 MiB in float64
WORK = 2**34  # multiply-accumulates, or what takes as long, of a run: some 20 s in the independent decoder
SHOWN = 2**29, 2**28  # the same where a decoder, or an attention function, is compared with each mistake of the bank
TOKEN, HEAD, SCORE = (
    2**18,
    2**13,
    64,
)  # what takes as long as a token in a layer, a query's head, a softmax
CASES = 10_000  # more feeds at random: each is a run of its own


def check_room(*sizes: int) -> None:
    """UsageError: the product of these sizes is more than NUMBERS."""
    if prod(sizes) > NUMBERS:
        raise UsageError(
            "these sizes need {numbers} numbers at once: a check computes with up to {most}",
            numbers=prod(sizes),
            most=NUMBERS,
        )


def attention_work(heads: int, d_head: int, queries: int, keys: int) -> int:
    """The multiply-accumulates that take as long as `queries` queries of every head over `keys` keys."""
    return heads * queries * (HEAD + keys * (2 * d_head + SCORE))


def check_work(work: int, most: int = WORK) -> None:
    """UsageError: the work, in multiply-accumulates, is more than `most`."""
    if work > most:
        raise UsageError(
            "these sizes take as long as {work} multiply-accumulates, and up to {most} are computed: use shorter texts,"
            " or fewer heads, layers or cases",
            work=work,
            most=most,
        )
