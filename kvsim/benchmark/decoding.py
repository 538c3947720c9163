"""Seconds of a prefill, and of single steps at chosen contexts, with a cache, without one, and of a peer.

The ways are interleaved: every repeat times all of them. Counting is on and the next token is chosen, as in `generate`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from kvsim.benchmark.limits import describe_machine, make_clock, measure_limits
from kvsim.benchmark.record import Benchmark, Point, Prefill
from kvsim.checks import check_whole
from kvsim.costs.bytes.parameters import count_parameters
from kvsim.costs.work.conventions import ATTENTION
from kvsim.counting.events import MatMul
from kvsim.counting.ledger import Ledger
from kvsim.errors import UsageError
from kvsim.generation.sampling import Sampler
from kvsim.model import Model


def choose_contexts(prompt: int, new: int, points: int) -> list[int]:
    """At most `points` contexts, evenly spaced from the first to the last step that feeds one token."""
    first, last = prompt, prompt + new - 1
    if points < 2 or first == last:
        return [last]
    return sorted({first + (last - first) * i // (points - 1) for i in range(points)})


def check_sizes(model_name: str, max_context: int, prompt: int, new: int) -> None:
    """UsageError: `prompt` or `new` is below 1, or both together exceed the model's context."""
    check_whole("-n", new, 1)
    check_whole("--prompt", prompt, 1)
    if prompt + new > max_context:
        raise UsageError(
            "the model {model} has a context of {context} tokens, asked for {asked}: use a smaller -n or --prompt",
            model=model_name,
            context=max_context,
            asked=prompt + new,
        )


def count_read_bytes(events: Sequence[MatMul], item_bytes: int, cache_bytes: int) -> int:
    """Bytes that a one-token step must read: every matrix that it multiplies by, and the rows of its cache."""
    matrices = sum(event.b * event.k * event.n for event in events if event.kind not in ATTENTION)
    return matrices * item_bytes + cache_bytes


def make_ids(model: Model, count: int) -> list[int]:
    """`count` token ids, the same at every call; their text has no meaning."""
    return [(7919 * i + 13) % model.config.vocab_size for i in range(count)]


def time_prefill(model: Model, prompt: int, repeats: int) -> Prefill:
    """A prompt of `prompt` tokens fed at once into an empty cache, with logits of the last position only."""
    ids, clock, found = make_ids(model, prompt), make_clock(model.ops.backend), Prefill(prompt)
    with model.count() as ledger:
        model(ids, model.new_cache("dynamic"), logits="last")
    found.useful_flops = 2 * ledger.useful_macs
    for _ in range(repeats):
        found.seconds.append(clock(lambda: model(ids, model.new_cache("dynamic"), logits="last")))
    return found


class _Stepper:
    """One model's steps at chosen contexts, each with the choice of the next token."""

    def __init__(self, model: Model, n_tokens: int) -> None:
        self.model, self.ids, self.sampler = model, make_ids(model, n_tokens), Sampler()
        self.cache = model.new_cache("dynamic")

    def fill(self, context: int) -> None:
        """Feed the first `context` tokens, as far as the cache has not seen them."""
        if context > self.cache.seen:
            self.model(self.ids[self.cache.seen : context], self.cache, logits="last")

    def cached(self, context: int) -> Ledger:
        """Feed token `context` after those before it; can be repeated."""
        self.cache.crop(min(context, self.cache.seen))  # drops the token that the previous repeat fed
        with self.model.count() as ledger:
            logits = self.model(self.ids[context : context + 1], self.cache, logits="last")
        self.sampler.choose(self.model.ops, logits[0, :], context)
        return ledger

    def uncached(self, context: int) -> Ledger:
        """Feed all tokens up to `context` without a cache."""
        with self.model.count() as ledger:
            logits = self.model(self.ids[: context + 1], logits="last")
        self.sampler.choose(self.model.ops, logits[0, :], context)
        return ledger


def time_steps(
    model: Model, contexts: Sequence[int], repeats: int, uncached: bool = True, peer: Any = None
) -> Iterator[Point]:
    """One `Point` for each of the increasing `contexts`, as soon as it is measured. Each way runs once untimed first
    (a peer only fills its cache).

    `uncached`: time the step without a cache too. `peer`: another implementation (see `peers`).
    """
    clock, stepper = make_clock(model.ops.backend), _Stepper(model, contexts[-1] + 1)
    for context in contexts:
        point = Point(context)
        stepper.fill(context)
        if peer is not None:
            peer.fill(stepper.ids[:context])
        ledger = stepper.cached(context)
        point.cached_flops = ledger.flops
        point.read_bytes = count_read_bytes(ledger.events, model.ops.item_bytes, stepper.cache.logical_bytes)
        if uncached:
            point.uncached_flops = stepper.uncached(context).flops
        for _ in range(repeats):
            point.cached.append(clock(partial(stepper.cached, context)))
            if uncached:
                point.uncached.append(clock(partial(stepper.uncached, context)))
            if peer is not None:
                point.peer.append(peer.step(stepper.ids[context], clock))
        yield point


def start(model: Model, peer: str | None, prompt: int, new: int, repeats: int) -> Benchmark:
    """The record of a run with everything but its points: facts, the machine's limits, the prefill.

    `new` tokens after a prompt of `prompt`; `repeats`: how often the prefill is timed.
    """
    read, multiply = measure_limits(model.ops.backend, model.dtype)
    return Benchmark(
        model=model.name, parameters=count_parameters(model.config), dtype=model.dtype, backend=model.backend,
        attention=model.attention, machine=describe_machine(), read_bytes_per_second=read,
        flops_per_second=multiply, peer=peer, peak_memory=None, first=prompt, last=prompt + new - 1,
        prefill=time_prefill(model, prompt, repeats),
    )  # fmt: skip
