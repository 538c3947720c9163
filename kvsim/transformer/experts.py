"""A mixture of experts as feed-forward layer: a router chooses a few experts for each token. The ids of the chosen
experts are copied to the host, once per layer.
"""

import math
from typing import NamedTuple

from kvsim.arrays import Array
from kvsim.config import Config, Experts
from kvsim.ops import Ops
from kvsim.transformer.feed_forward import feed_forward
from kvsim.weights import Mixture


def take_best(ops: Ops, scores_TE: Array, count: int) -> Array:
    """Ids of the `count` highest scores of each row, best first, by repeated argmax: [T, count].

    Ties go to the smaller id, which the sorts of the array libraries do not guarantee.
    """
    xp = ops.xp
    if not ops.backend.holds_data:  # `count` may be too large for a loop
        return xp.empty((scores_TE.shape[0], count), dtype=xp.int64)
    ids_1E = ops.arange(0, scores_TE.shape[1])[None, :]
    best = []
    for _ in range(count):
        id_T1 = xp.argmax(scores_TE, axis=-1, keepdims=True)
        best.append(id_T1)
        scores_TE = xp.where(ids_1E == id_T1, -math.inf, scores_TE)
    return xp.concat(best, axis=-1)


def one_of(ops: Ops, ids: Array, count: int) -> Array:
    """Is each of `count` among the ids of its row? [T, count] booleans of ids [T, n]."""
    ids_11E = ops.arange(0, count)[None, None, :]
    return ops.xp.any(ids[:, :, None] == ids_11E, axis=1)


def keep_groups(ops: Ops, e: Experts, scores_TE: Array) -> Array:
    """The scores with all groups but the best at zero, or at -inf where scores may be negative."""
    xp = ops.xp
    n_tokens, size = scores_TE.shape[0], e.count // e.groups
    grouped = xp.reshape(scores_TE, (n_tokens * e.groups, size))
    best = take_best(ops, grouped, 2 if e.group_score == "best_two" else 1)
    ids = ops.arange(0, size)[None, None, :]
    picked = xp.where(best[:, :, None] == ids, grouped[:, None, :], xp.zeros_like(grouped[:, None, :]))
    score = xp.reshape(xp.sum(picked, axis=(1, 2)), (n_tokens, e.groups))
    kept = one_of(ops, take_best(ops, score, e.kept_groups), e.groups)
    kept_TE = xp.reshape(xp.broadcast_to(kept[:, :, None], (*kept.shape, size)), scores_TE.shape)
    return xp.where(kept_TE, scores_TE, -math.inf if e.correction else 0.0)


def route(ops: Ops, e: Experts, w: Mixture, x_TD: Array) -> tuple[Array, Array]:
    """For each token the ids of its experts [T, n], and a weight for every expert [T, E], zero for those not chosen."""
    xp = ops.xp
    logits_TE = xp.astype(ops.linear("router", x_TD, w.router), ops.wide_dtype, copy=False)
    if e.router == "softmax":
        weight_TE = ops.wide_softmax(logits_TE)
    elif e.router == "sigmoid":
        weight_TE = ops.sigmoid(logits_TE)
    else:
        weight_TE = logits_TE
    choice_TE = weight_TE if w.correction is None else weight_TE + w.correction
    if e.groups > 1:
        choice_TE = keep_groups(ops, e, choice_TE)
    chosen = take_best(ops, choice_TE, e.chosen)
    among_TE = one_of(ops, chosen, e.count)
    if e.router == "chosen":
        weight_TE = ops.wide_softmax(xp.where(among_TE, weight_TE, -math.inf))
    weight_TE = xp.where(among_TE, weight_TE, 0.0)
    if e.normalize:
        total_T1 = xp.sum(weight_TE, axis=-1, keepdims=True)
        # DeepSeek-V3 adds this number against division by zero; sums of the other routers are never near zero.
        weight_TE = weight_TE / (total_T1 + 1e-20 if e.router == "sigmoid" else total_T1)
    return chosen, weight_TE * e.scale


class Group(NamedTuple):
    """The tokens routed to one expert."""

    scope: tuple[object, ...]  # of its products' sites: ("experts", 3)
    expert: int
    rows: Array  # their indices among the T tokens
    places: Array  # for each of the T tokens its row in the expert's output plus 1, or 0 if not routed here


def dispatch(ops: Ops, e: Experts, chosen: Array) -> list[Group]:
    """The chosen experts in the order of their ids. Copies the choice to the host."""
    if not ops.backend.holds_data:
        # Without data the assignment is unknown, but the total number of rows over all experts is not.
        n_tokens = chosen.shape[0]
        return [Group(("experts",), 0, ops.arange(0, n_tokens * e.chosen), ops.arange(0, n_tokens))]
    ids = ops.backend.to_host(chosen).tolist()
    groups = []
    for expert in range(e.count):
        rows = [t for t, row in enumerate(ids) if expert in row]
        if rows:
            places = [0] * len(ids)
            for place, t in enumerate(rows, start=1):
                places[t] = place
            groups.append(Group(("experts", expert), expert, ops.ids(rows), ops.ids(places)))
    return groups


def mixture(ops: Ops, config: Config, e: Experts, w: Mixture, x_TD: Array) -> Array:
    """[T, D] to [T, D]: the weighted sum of the chosen experts, in the order of their ids, plus the shared one."""
    xp = ops.xp
    chosen, weight_TE = route(ops, e, w, x_TD)
    weight_TE = xp.astype(weight_TE, ops.dtype, copy=False)
    y_TD = xp.zeros_like(x_TD)
    for group in dispatch(ops, e, chosen):
        with ops.at(*group.scope):
            one = feed_forward(ops, config, w.experts[group.expert], xp.take(x_TD, group.rows, axis=0))
        padded = xp.concat([xp.zeros_like(one[:1, :]), one], axis=0)
        y_TD = y_TD + xp.take(padded, group.places, axis=0) * weight_TE[:, group.expert : group.expert + 1]
    if w.shared is not None:
        with ops.at("shared"):
            y_TD = y_TD + feed_forward(ops, config, w.shared, x_TD)
    return y_TD
