"""One mistake shown by itself: the failure text of a decoder, or an attention function, that makes it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.checks import check_whole
from kvsim.errors import UsageError
from kvsim.testing.bank import Mistake
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.checks.decoders import assert_policy
from kvsim.testing.checks.edits import assert_edits, edits_of
from kvsim.testing.feeds.chunking import LONGEST
from kvsim.testing.feeds.references import Reference
from kvsim.testing.independent.decoder import Decoder
from kvsim.testing.subject.attention import Inputs, attend
from kvsim.testing.subject.room import CASES, SHOWN, attention_work, check_room, check_work
from kvsim.testing.subject.weights import Sizes, make_weights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.readout import MOST_READ

BUFFER, SHOW = 64, (3, 7)  # rows of a buffer, and the (queries, keys) shown, where none are given
READINGS = 64  # of mistakes in attention, about: that many runs count once
TEXT, TEXTS = 8, 10  # tokens of a text of a check without a window, and texts; a random one counts as three


@dataclass(frozen=True)
class ExplainOptions:
    """The model on which a mistake is shown. `show`: (queries, keys) of an attention function; None: a decoder.

    UsageError: a negative seed or number of cases, or more queries than keys.
    """

    heads: int = 4
    kv_heads: int = 2
    window: int | None = None  # None: the window that the mistake needs
    d_head: int = 8
    layers: int = 2
    batch: int = 2
    rotated: bool = False
    cases: int = 0
    length: int = 0
    reading: int = 1  # which form of the mistake
    show: tuple[int, int] | None = None
    buffer: int | None = None  # rows of the buffers that an attention function reads
    seed: int = 0

    def __post_init__(self) -> None:
        queries, keys = self.show or (1, 1)
        if min(self.seed, self.cases, self.length) < 0 or not 1 <= queries <= keys:
            raise UsageError(
                "seed, cases and length are at least 0, queries at least 1 and at most as many as keys: got {seed},"
                " {cases}, {length}, {queries} and {keys}", seed=self.seed, cases=self.cases, length=self.length,
                queries=queries, keys=keys,
            )  # fmt: skip


def show_mistake(mistake: Mistake, options: ExplainOptions) -> str:
    """The text of the failing check; "" if the mistake changes nothing in this model, or kvsim has no such cache.

    UsageError: sizes that do not go together, or no such reading.
    """
    window = mistake.window if options.window is None else options.window
    if not mistake.variants:  # it can be made in buffers alone
        options = replace(options, buffer=options.buffer or BUFFER)
    if options.buffer is not None:
        options = replace(options, show=options.show or SHOW)
    _check_work(options, window)
    in_buffers = mistake.buffer_variants() if options.buffer else []
    alone = in_buffers or (mistake.attention_variants() if options.show else [])
    readings = alone or mistake.variants
    if not 1 <= options.reading <= len(readings):
        raise UsageError(
            "{id} has {count} readings, got {got}", id=mistake.id, count=len(readings), got=options.reading
        )
    cls = readings[options.reading - 1]
    try:
        if mistake.edits:
            _check_edits(cls, options, window)
        elif alone:
            _check_attention(cls, options, window)
        else:
            _check_decoder(mistake, cls, options, window)
    except OracleError as error:
        return str(error)
    except UsageError as error:
        if "unknown cache" not in str(error):
            raise
    return ""


def _check_work(options: ExplainOptions, window: int | None) -> None:
    """UsageError: all cases together take too long."""
    decoder, attention = SHOWN
    check_whole("cases", options.cases, 0, CASES)
    if options.show is None:
        sizes = Sizes(layers=options.layers, heads=options.heads, kv_heads=options.kv_heads, d_head=options.d_head)
        tokens = max(TEXT, min(LONGEST, 2 * (window or 0) + 5))
        check_work(sizes.work(tokens, TEXTS + 3 * options.cases), decoder)
        return
    check_whole("d_head", options.d_head, 1)
    queries, keys = options.show
    size = options.buffer or 0
    check_room(options.batch, options.heads, max(keys, size), max(queries, options.d_head))
    long = [] if window is None else [(window // 2, max(window, size))]
    reads = options.kv_heads + (-(-keys // options.d_head) if keys <= MOST_READ else 0)  # to read the weights out
    shown = [(queries, max(keys, size))] * (1 + reads // READINGS)
    pairs = [*shown, *long, *[(3, max(7, size))] * (TEXTS + options.cases)]
    check_work(sum(options.batch * attention_work(options.heads, options.d_head, *pair) for pair in pairs), attention)


def _check_attention(cls: Any, options: ExplainOptions, window: int | None) -> None:
    """OracleError: the mistake was found."""
    one = cls.attention_only(None)

    def wrong(q: Any, k: Any, v: Any, window: int | None = None, length: Any = None) -> Any:
        return attend(one, Inputs(q, k, v, length), window)

    assert_attention(
        wrong, heads=options.heads, kv_heads=options.kv_heads, d_head=options.d_head, window=window,
        batch=options.batch, cases=options.cases, length=options.length, seed=options.seed,
        rotated=options.rotated, show=options.show, buffer=options.buffer,
    )  # fmt: skip


def _check_edits(cls: Any, options: ExplainOptions, window: int | None) -> None:
    """OracleError: the mistake was found."""
    weights = make_weights(layers=options.layers, heads=options.heads, kv_heads=options.kv_heads, d_head=options.d_head,
                           window=window, seed=options.seed)  # fmt: skip
    one = edits_of(cls, Reference(weights))
    assert_edits(one.make, one.step, weights, crop=one.crop, fork=one.fork, reorder=one.reorder, seed=options.seed)


def _check_decoder(mistake: Mistake, cls: Any, options: ExplainOptions, window: int | None) -> None:
    """OracleError: the mistake was found."""
    context = max(Sizes.context, options.length)
    weights = make_weights(layers=options.layers, heads=options.heads, kv_heads=options.kv_heads, d_head=options.d_head,
                           window=window, seed=options.seed, context=context, rope=mistake.rope)  # fmt: skip
    config, arrays = weights.config.to_config(), weights.to_weights()
    kept: dict[str, Any] = {}  # some mistakes carry state from one text to the next

    def make() -> dict[str, Any]:
        first = "decoder" not in kept
        kept["decoder"] = cls(config, arrays, mistake.policy) if first else kept["decoder"].fresh()
        return kept

    def step(kept: dict[str, Any], ids: list[int]) -> Any:
        with np.errstate(all="ignore"):
            return kept["decoder"].forward(ids)

    def clear(kept: dict[str, Any]) -> None:
        kept["decoder"] = kept["decoder"].cleared()

    emptied = clear if cls.cleared is not Decoder.cleared else False
    assert_policy(make, step, weights, mistake.policy, clear=emptied, cases=options.cases, length=options.length,
                  seed=options.seed)  # fmt: skip
