"""11: a cache of the last tokens, and of the first ones, with positions counted inside it."""

from typing import Any, NamedTuple

import numpy as np

from kvsim.learn.checking import Given
from kvsim.learn.subject import Subject, Thing
from kvsim.testing.checks.decoders import assert_policy
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import POLICIES, Decoder
from kvsim.testing.independent.rows import DecoderLike, SinkRows
from kvsim.testing.subject.calls import Problem, ShapeError, UnreadableError, to_host
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.verdict.error import OracleError
from kvsim.testing.verdict.facts import UNKNOWN

CACHE = "WindowCache"
WINDOW = 4
SINKS = (0, 2)
HEADS = 2
MOST_ROWS = 1024
SAME = 1e-4  # rows of different tokens differ by much more
Seen = list[tuple[int, int]]  # (token, position), by token


class Look(NamedTuple):
    """What one query was given: the tokens that it sees with their positions, and with their slots for positions.
    `tokens` and `values`: of each row, the token whose key and whose value it has, -1 for neither."""

    token: int
    fed: tuple[int, ...]  # the chunks so far
    got: Seen
    slots: Seen
    tokens: list[int]
    values: list[int]


def check(given: Given) -> None:
    """OracleError: a query sees other rows, or sees them at other positions, or rows are kept without end."""
    weights = make_weights(layers=1, heads=HEADS, kv_heads=HEADS, seed=given.seed)
    for sinks in SINKS:
        check_policy(given, weights, sinks)


def check_policy(given: Given, weights: ModelWeights, sinks: int) -> None:
    """As `check`, with this number of sinks. OracleError: the code is wrong."""
    seen: list[WithWindow] = []

    def make() -> WithWindow:
        seen.append(WithWindow(weights, sinks, given.subject))
        return seen[-1]

    def step(decoder: WithWindow, ids: list[int]) -> Any:
        decoder.fed = (*decoder.fed, len(ids))
        return decoder.forward(ids).astype(given.subject.dtype)

    policy = f"sinks:{sinks}+{WINDOW}" if sinks else f"window:{WINDOW}"
    try:
        assert_policy(make, step, weights, policy, clear=False, seed=given.seed, dtype=given.subject.dtype)
    except OracleError as error:
        raise explain(given, error, seen, sinks) from None
    kept, tokens = max(pair for decoder in seen for pair in decoder.kept)
    if kept > WINDOW + sinks:
        values = {"tokens": tokens, "kept": kept, "most": WINDOW + sinks}
        problem = Problem("values right, too much kept: {kept} rows after {tokens} tokens, at most {most}", values)
        raise given.fail(problem, "nothing_evicted", notes=(sizes(sinks),), rows=kept)


def explain(given: Given, error: OracleError, decoders: list["WithWindow"], sinks: int) -> OracleError:
    """The error of a check that failed, told by the first query that sees other rows than it should."""
    looks = [look for decoder in decoders for look in decoder.looks]
    if not error.facts.get("diagnosis"):
        return error
    if any(decoder.swapped for decoder in decoders):
        told = Problem("{name} gave the values where the keys belong", {"name": "update"})
        return given.fail(told, "k_and_v_swapped", notes=(sizes(sinks),))
    if mixed := [look for look in looks if look.tokens != look.values]:
        row, key, value = next((r, *pair) for r, pair in enumerate(zip(mixed[0].tokens, mixed[0].values, strict=True))
                               if pair[0] != pair[1])  # fmt: skip
        told = Problem("row {row} has the key of token {key} and the value of token {value}",
                       {"row": row, "key": name(key), "value": name(value)})  # fmt: skip
        return given.fail(
            told, *(["v_not_appended_in_order"] if min(key, value) >= 0 else []), notes=notes(mixed[0], sinks)
        )
    wrong = [look for look in looks if look.got != expect(look.token, sinks)]
    if not wrong:
        return error
    ids = [id for id in error.facts["diagnosis"] if id != UNKNOWN] or name_mistake(looks, wrong, sinks)
    values = {"token": wrong[0].token, "got": show(wrong[0].got), "expected": show(expect(wrong[0].token, sinks))}
    headline = Problem("the query of token {token} sees {got}, expected {expected} (token:position)", values)
    return given.fail(headline, *ids[:1], notes=notes(wrong[0], sinks))


def name_mistake(looks: list[Look], wrong: list[Look], sinks: int) -> list[str]:
    """The mistake that all queries tell of; none: it is not known."""
    if all(has_zeros(look, sinks) for look in looks):
        return ["zero_for_unseen"]
    if any(token > look.token for look in wrong for token, _ in look.got):
        return ["mask_missing"]
    if any(look.got for look in wrong) and all(look.got == look.slots for look in looks):
        return ["slot_as_position"]
    if all(look.got == expect(look.token, sinks, sinks) for look in looks):
        return ["window_shortened_by_sinks"]
    missing = [{token for token, _ in expect(look.token, sinks)} - {token for token, _ in look.got} for look in wrong]
    if sinks and all(one and max(one) < sinks for one in missing):
        return ["sinks_evicted"]
    starts = [(look.token, one) for look, one in zip(wrong, missing, strict=True) if look.token == sum(look.fed[:-1])]
    return ["window_evicts_newest"] if starts and all(token - 1 in one for token, one in starts) else []


def has_zeros(look: Look, sinks: int) -> bool:
    """Whether the query is given every row, those that it should not see at position 0."""
    right, got = set(expect(look.token, sinks)), set(look.got)
    return len(look.got) == len(look.tokens) and right <= got and all(position == 0 for _, position in got - right)


def notes(look: Look, sinks: int) -> tuple[Problem, ...]:
    """What was fed before that query, and the setting."""
    fed = Problem("the first token is 0; tokens that came one chunk after another: {fed}",
                  {"fed": " + ".join(map(str, look.fed))})  # fmt: skip
    return fed, sizes(sinks)


def sizes(sinks: int) -> Problem:
    """The setting."""
    return Problem("window = {window}, sinks = {sinks}", {"window": WINDOW, "sinks": sinks})


def show(seen: Seen) -> str:
    """0:0 3:1 for the token 0 at position 0 and the token 3 at position 1."""
    return " ".join(f"{name(token)}:{position}" for token, position in seen) or "-"


def name(token: int) -> str:
    """The number of a token, or "?"."""
    return str(token) if token >= 0 else "?"


def expect(token: int, sinks: int, less: int = 0) -> Seen:
    """What the query of a token sees; of a window that is `less` tokens shorter."""
    rows = SinkRows.__new__(SinkRows)
    rows.options = sinks, WINDOW - less
    seen = rows.visible_positions(token)
    return list(zip(seen, rows.rotary_positions(seen), strict=True))


class LearnersRows(SinkRows):
    """A layer's cache around the learner's. The learner's gets random rows, so that each row shows its token."""

    def __init__(self, decoder: DecoderLike, layer: int, options: Any) -> None:
        super().__init__(decoder, layer, options)
        assert isinstance(decoder, WithWindow)
        self.owner, self.cache = decoder, new_cache(decoder.subject, decoder.sinks)
        self.generator = np.random.default_rng(layer)
        self.marks: list[tuple[Any, Any]] = []  # key and value [H, D] that were given for each token

    def update(
        self, start: int, q: list[Any], k: list[Any], v: list[Any], positions: list[int]
    ) -> list[AttentionInputs]:
        self.append(start, k, v)
        new = self.generator.standard_normal((len(k), 2, *k[0].shape))
        self.marks += [(key, value) for key, value in new]
        got = self.cache.call("update", *(np.stack(list(new[:, part]), axis=1) for part in (0, 1)))
        keys, values, at_TR = read(got, len(q), k[0].shape)
        tokens = [[self.find(x[:, r], part) for r in range(x.shape[1])] for part, x in enumerate((keys, values))]
        self.owner.swapped |= keys.shape[1] > 0 and all(self.find(keys[:, r], 1) >= 0 for r in range(keys.shape[1]))
        self.owner.kept.append((at_TR.shape[1] - len(q), start))  # before these came
        return [self.look(start + t, query, at_TR[t], *tokens) for t, query in enumerate(q)]

    def find(self, row: Any, part: int) -> int:
        """The token whose key (part 0) or value (part 1) this is; -1: of none."""
        same = np.flatnonzero(np.abs(np.stack([mark[part] for mark in self.marks]) - row).max(axis=(1, 2)) <= SAME)
        return int(same[0]) if same.size else -1

    def look(self, token: int, query: Any, at: Any, tokens: list[int], values: list[int]) -> AttentionInputs:
        """One query and the rows that it sees; written down for the verdict."""
        d, seen = self.owner, [int(r) for r in np.flatnonzero(at >= 0)]
        got, slots = sorted((tokens[r], int(at[r])) for r in seen), sorted((tokens[r], r) for r in seen)
        d.looks.append(Look(token, d.fed, got, slots, tokens, values))
        blank = np.full(self.keys[0].shape, np.nan)
        keys = [blank if tokens[r] < 0 else d.encode_key(self.layer, self.keys[tokens[r]], int(at[r])) for r in seen]
        shown = [blank if values[r] < 0 else self.values[values[r]] for r in seen]
        k_SGK, v_SGK = np.stack(keys or [blank]), np.stack(shown or [blank])
        q_THK = d.encode_query(self.layer, query, int(at.max(initial=0)))[None]
        return AttentionInputs(q_THK, k_SGK, v_SGK, np.array([0]), np.zeros(len(k_SGK), int), None,
                               d.layer_scale(self.layer))  # fmt: skip


class WithWindow(Decoder):
    """The independent decoder with the learner's cache. `looks`: what queries see; `kept`: (rows kept, tokens);
    `swapped`: values came as keys."""

    caches = POLICIES | {"sinks": LearnersRows}

    def __init__(self, weights: ModelWeights, sinks: int, subject: Subject) -> None:
        self.sinks, self.subject = sinks, subject
        self.looks: list[Look] = []
        self.kept: list[tuple[int, int]] = []
        self.fed: tuple[int, ...] = ()
        self.swapped = False
        super().__init__(weights.config.to_config(), weights.to_weights(), f"sinks:{sinks}+{WINDOW}")


def new_cache(subject: Subject, sinks: int) -> Thing:
    """A cache of the learner's. UnreadableError: the class gives none."""
    made = subject.call(CACHE, WINDOW, sinks)
    if not isinstance(made, Thing):
        raise UnreadableError("{name} gave {got}, expected numbers, lists or arrays of them", name=CACHE,
                              got=type(made).__name__)  # fmt: skip
    return made


def read(got: Any, n_new: int, row: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Keys and values [H, R, D], and positions [T, R]. UnreadableError: no such arrays. ShapeError: of other shapes."""
    try:
        if np.asarray(got[2]).dtype == bool:
            raise UnreadableError("update gave positions that are no whole numbers")
        keys, values, at = (np.asarray(to_host(np.asarray(x, float))[0]) for x in got)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise UnreadableError(
            "update gave {got}, expected keys, values and positions", got=type(got).__name__
        ) from error
    n_rows = keys.shape[1] if keys.ndim == 3 else n_new
    if n_rows > MOST_ROWS:
        raise UnreadableError("update gave {got} rows, more than the {most} that are read", got=n_rows, most=MOST_ROWS)
    for x, axes, expected in ((keys, "heads, rows, d_head", (row[0], n_rows, row[1])),
                              (values, "heads, rows, d_head", (row[0], n_rows, row[1])),
                              (at, "queries, rows", (n_new, n_rows))):  # fmt: skip
        if x.shape != expected:
            raise ShapeError("{name} gave an array of shape {got}, expected ({axes}) = {expected}", name="update",
                             got=list(x.shape), axes=axes, expected=list(expected))  # fmt: skip
    if not (np.isfinite(at).all() and (at == np.rint(at)).all() and np.abs(at).max(initial=0) < 10**6):
        raise UnreadableError("update gave positions that are no whole numbers")
    return keys, values, at.astype(int)
