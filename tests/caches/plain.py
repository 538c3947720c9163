"""A transformer in plain loops, a token and a head at a time, and the policies on lists of rows: what caches are held
against. Of kvsim it takes a model's arrays and sizes (rotary, RMSNorm, gated SiLU: PRIMES and its like).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

TIE = 1e-5  # scores are tied if they differ by no more than this part of their size
NEAR = 1e-4  # differences as near as this part of the tolerance may be on its other side after other rounding


class NearTieError(Exception):
    """Rounding decides whether two scores are tied."""


@dataclass
class Row:
    """The row of one token in one head."""

    position: int
    bare: Any  # the key without its position
    key: Any
    value: Any
    score: float = 0.0


# The policies: a head's rows, and for each query of the step what it gave to which position; answer: the rows that stay


def rank_rows(rankings, count):
    """The `count` rows that stay of those with these scores: by the first ranking, ties with the last place by the
    next, and at the end by age. NearTieError: rounding decides whether a score is tied with the last place."""
    chosen, tied = [], list(range(len(rankings[0])))
    for scores in rankings if count else ():
        last = sorted((scores[i] for i in tied), reverse=True)[count - len(chosen) - 1]
        room = TIE * abs(last)
        if any(abs(abs(scores[i] - last) - room) < NEAR * room for i in tied):
            raise NearTieError
        chosen += [i for i in tied if scores[i] - last > room]
        tied = [i for i in tied if abs(scores[i] - last) <= room]
    return sorted(chosen + tied[: count - len(chosen)])


def h2o(rows, given, budget):
    for row in rows:
        row.score += sum(gave.get(row.position, 0.0) for gave in given)
    if len(rows) <= budget:
        return rows
    newest = math.ceil(budget / 2)
    others, last = rows[: len(rows) - newest], rows[len(rows) - newest :]
    return [others[i] for i in rank_rows([[row.score for row in others]], budget - newest)] + last


def snapkv(rows, given, budget):
    if len(given) == 1 or len(rows) <= budget:
        return rows
    window = min(32, len(given), budget)
    others, last = rows[: len(rows) - window], rows[len(rows) - window :]
    votes = [sum(gave.get(row.position, 0.0) for gave in given[-window:]) for row in others]
    pooled = [max(votes[max(0, i - 3) : i + 4]) for i in range(len(votes))]
    return [others[i] for i in rank_rows([pooled, votes], budget - window)] + last


def knorm(rows, given, budget):
    if len(rows) <= budget:
        return rows
    norms = [-sum(float(x) ** 2 for x in row.bare) for row in rows[:-1]]
    return [rows[i] for i in rank_rows([norms], budget - 1)] + rows[-1:]


POLICIES = {"h2o": h2o, "snapkv": snapkv, "knorm": knorm}


# The transformer


def rms(x, norm, eps):
    return x / math.sqrt(sum(v * v for v in x) / len(x) + eps) * norm.gain


def rotated(x, position, theta):
    """Elements j and j + K/2 rotated by position · theta^(-2j/K)."""
    half, y = len(x) // 2, x.copy()
    for j in range(half):
        angle = position * theta ** (-2 * j / len(x))
        y[j] = x[j] * math.cos(angle) - x[j + half] * math.sin(angle)
        y[j + half] = x[j + half] * math.cos(angle) + x[j] * math.sin(angle)
    return y


def shares(query, keys):
    scores = np.array([sum(query * key) for key in keys]) / math.sqrt(len(query))
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


class Plain:
    def __init__(self, model):
        self.config, self.weights = model.config, model.weights
        self.theta = model.config.layers[0].rope.theta

    def embed(self, ids):
        return [self.weights.tokens[i].copy() for i in ids]

    def heads(self, w, x):
        """Query, key and value heads of one token, without positions."""
        normed = rms(x, w.attention_norms.before, self.config.norm_eps)
        parts = (w.attention.query, w.attention.key, w.attention.value)
        return [(part.weight @ normed).reshape(-1, self.config.d_head) for part in parts]

    def finish(self, w, x, context):
        x = x + w.attention.output.weight @ context
        normed = rms(x, w.ff_norms.before, self.config.norm_eps)
        gate = w.ff.gate.weight @ normed
        return x + w.ff.down.weight @ (gate / (1 + np.exp(-gate)) * (w.ff.up.weight @ normed))

    def logits(self, x):
        return self.weights.head.weight @ rms(x, self.weights.final_norm, self.config.norm_eps)

    def run_sinks(self, ids, first, last):
        """Logits [T, V]; each query sees its own list of tokens, at positions from 0."""
        xs, group = self.embed(ids), self.config.n_heads // self.config.n_kv_heads
        for w in self.weights.layers:
            made, after = [self.heads(w, x) for x in xs], []
            for p, x in enumerate(xs):
                seen = [j for j in range(p + 1) if j < first or p - j < last]
                context = []
                for h in range(self.config.n_heads):
                    keys = [rotated(made[j][1][h // group], n, self.theta) for n, j in enumerate(seen)]
                    probs = shares(rotated(made[p][0][h], len(seen) - 1, self.theta), keys)
                    context.append(sum(q * made[j][2][h // group] for q, j in zip(probs, seen, strict=True)))
                after.append(self.finish(w, x, np.concatenate(context)))
            xs = after
        return np.stack([self.logits(x) for x in xs])

    def run_evicting(self, ids, sizes, policy, budget):
        """Logits [T, V], the rows that each layer keeps in the end, and the pairs of one head of each layer."""
        n_heads, group = self.config.n_heads, self.config.n_heads // self.config.n_kv_heads
        held = [[[] for _ in range(self.config.n_kv_heads)] for _ in self.weights.layers]
        pairs = [0 for _ in self.weights.layers]
        logits, start = [], 0
        for size in sizes:
            xs = self.embed(ids[start : start + size])
            for layer, w in enumerate(self.weights.layers):
                made = [self.heads(w, x) for x in xs]
                for t, (_, keys, values) in enumerate(made):
                    for g, rows in enumerate(held[layer]):
                        rows.append(Row(start + t, keys[g], rotated(keys[g], start + t, self.theta), values[g]))
                given = [[{} for _ in xs] for _ in held[layer]]
                contexts = [[] for _ in xs]
                for t, (queries, _, _) in enumerate(made):
                    for h in range(n_heads):
                        seen = [row for row in held[layer][h // group] if row.position <= start + t]
                        pairs[layer] += len(seen) if h == 0 else 0
                        probs = shares(rotated(queries[h], start + t, self.theta), [row.key for row in seen])
                        contexts[t].append(sum(p * row.value for p, row in zip(probs, seen, strict=True)))
                        gave = given[h // group][t]
                        for p, row in zip(probs, seen, strict=True):
                            gave[row.position] = gave.get(row.position, 0.0) + float(p)
                xs = [self.finish(w, x, np.concatenate(c)) for x, c in zip(xs, contexts, strict=True)]
                held[layer] = [policy(rows, gave, budget) for rows, gave in zip(held[layer], given, strict=True)]
            logits += [self.logits(x) for x in xs]
            start += size
        return np.stack(logits), held, pairs
