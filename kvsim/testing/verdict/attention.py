"""The record of an attention function that failed: where it first differs, which keys are seen, the mistake."""

from typing import Any

import numpy as np

from kvsim.testing.bank import BANK, Mistake
from kvsim.testing.bank.buffers import WeightsOfZero
from kvsim.testing.feeds.attention import Comparison, smallest_failing
from kvsim.testing.feeds.known_runs import KNOWN, fingerprint
from kvsim.testing.feeds.references import Allowed
from kvsim.testing.subject.attention import Setting, attend
from kvsim.testing.subject.calls import UnreadableError, first_nonfinite
from kvsim.testing.verdict.decoders import measure
from kvsim.testing.verdict.diagnosing import Vote, diagnose
from kvsim.testing.verdict.failure import (
    AttentionFailure,
    Blank,
    Buffer,
    Candidate,
    Command,
    Diagnosis,
    Failure,
    OutputPlace,
    Weights,
)
from kvsim.testing.verdict.picture import labels
from kvsim.testing.verdict.readout import MOST_READ, is_linear, read_weights


class AttentionSuspects:
    """Every reading of every mistake that concerns attention alone, run on the same inputs."""

    def __init__(self, done: list[Comparison], window: int | None) -> None:
        self.done, self.window = done, window
        self.keys = [fingerprint(c.inputs) for c in done]  # of the runs in KNOWN

    def readings(self) -> list[tuple[Mistake, list[type[Any]]]]:
        buffered = self.done[0].inputs.lengths is not None
        every = ((m, m.buffer_variants() if buffered else m.attention_variants()) for m in BANK.values())
        return [(m, classes) for m, classes in every if classes]

    def run(self, mistake: Mistake, cls: type[Any], wanted: list[int]) -> dict[int, Any]:
        """Outputs [B, T, H, D] of the wanted comparisons, by their numbers."""
        return {i: self._output(cls, i) for i in wanted}

    def _output(self, cls: type[Any], i: int) -> Any:
        """The output of one reading, from memory if it was computed before in this process."""
        key = (cls, self.window, self.keys[i])
        return KNOWN.get(key, lambda: [attend(cls.attention_only(None), self.done[i].inputs, self.window)])[0]


def describe_failure(
    s: Setting, done: list[Comparison], allowed: Allowed, show: tuple[int, int] | None = None
) -> Failure:
    """What is wrong with the function of a check that failed, shown on the sizes `show` if these fail."""
    problems = [c.problem for c in done if c.problem is not None]
    problem = next((p for p in problems if p.fatal), problems[0] if problems else None)
    reported = () if problem is None else (problem,)
    failing = [c for c in done if c.fails(allowed.value)]
    if not failing or (problem is not None and problem.fatal):
        raised = {c.problem and c.problem.values.get("raised") for c in done}
        return Failure(headlines=reported, compared=False, unwritten=raised == {NotImplementedError})
    only_nan = all(c.nan for c in failing)
    failing = failing if only_nan else [c for c in failing if not c.nan]
    first = next((c for c in failing if c.sizes == show), failing[0])
    linear, weights = _read(s, first, allowed.value)
    return AttentionFailure(
        problems=reported,
        failing=tuple(c.sizes for c in failing),
        difference=measure([(c.got, c.expected) for c in failing], allowed.value),
        allowed=allowed,
        blank=find_blank(failing),
        first=first_place(first, allowed.value),
        linear=linear,
        weights=weights,
        diagnosis=find_diagnosis(s, done, allowed.value),
        smallest=smallest_failing(s, allowed.value, only_nan),
        command=explain_command(s, first),
        buffer=find_buffer(s, first, allowed.value),
        only_nan=only_nan,
    )  # fmt: skip


def find_diagnosis(s: Setting, done: list[Comparison], allowed: float) -> Diagnosis:
    """Which mistake of the bank explains the calls. Calls with NaN in the rows of a buffer that were never written show
    that such rows are read, if no others fail, and nothing else: how NaN spreads is not the mistake."""
    failing = [c for c in done if c.fails(allowed)]
    if all(c.nan for c in failing):
        mistake, values = BANK["unwritten_slots_read"], sum(c.got.size for c in failing)
        number, n_all = mistake.buffer_variants().index(WeightsOfZero) + 1, sum(c.got is not None for c in done)
        one = Candidate(mistake, len(failing), n_all, values, number)
        return Diagnosis((one,), len(failing), n_all)
    finite = [c for c in done if not c.nan]
    votes = [Vote(c.expected, c.got, allowed, step_of(c)) for c in finite]
    return diagnose(votes, AttentionSuspects(finite, s.window))


def find_buffer(s: Setting, c: Comparison, allowed: float) -> Buffer | None:
    """The lengths of a call that failed and the first sequence that differs; None if there is no buffer."""
    if s.buffer is None:
        return None
    sequence = int(np.argwhere(~(np.abs(c.got - c.expected) <= allowed))[0][0])
    return Buffer(sequence, tuple(int(n) for n in c.inputs.lengths), s.buffer, c.nan)


def step_of(c: Comparison) -> tuple[tuple[int, int], ...]:
    """The keys before the first query, and the queries, as the one step that there is; none in buffers, where each
    sequence has its own."""
    return () if c.inputs.lengths is not None else ((c.sizes[1] - c.sizes[0], c.sizes[0]),)


def _read(s: Setting, compared: Comparison, allowed: float) -> tuple[bool, Weights | None]:
    """May the output be linear in V, and the weights if it is; no weights if the function cannot be called so, of
    outputs that are not finite, or of more than MOST_READ keys."""
    try:
        linear = is_linear(s, compared.inputs, allowed)
        shown = linear and compared.sizes[1] <= MOST_READ
        return linear is not False, read_weights(s, compared.inputs, allowed) if shown else None
    except UnreadableError:
        return True, None


def find_blank(failing: list[Comparison]) -> Blank | None:
    """The first number that is not finite."""
    for c in failing:
        if (index := first_nonfinite(c.got)) is not None:
            return Blank(c.got[index], index, c.sizes)
    return None


def first_place(c: Comparison, allowed: float) -> OutputPlace:
    """The first number of the output that differs."""
    b, t, h, d = (int(i) for i in np.argwhere(~(np.abs(c.got - c.expected) <= allowed))[0])
    length = c.sizes[1] if c.inputs.lengths is None else int(c.inputs.lengths[b])
    position = length - c.sizes[0] + t
    token = labels(c.sizes[1])[position]
    return OutputPlace(h, t, token, position, d, float(c.got[b, t, h, d]), float(c.expected[b, t, h, d]))


def explain_command(s: Setting, first: Comparison) -> Command:
    """The options of `kvsim explain` for this setting."""
    queries, keys = first.sizes
    return Command({
        "heads": s.heads, "kv-heads": s.kv_heads, "window": s.window, "queries": queries, "keys": keys,
        "d-head": s.d_head if s.d_head != 8 else None, "batch": s.batch if s.batch != 2 else None,
        "rotated": s.rotated, "cases": s.cases or None, "length": s.length or None, "buffer": s.buffer, "seed": s.seed,
    })  # fmt: skip
