"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), in three forms with the same logits.

Keys and values are computed from a latent of L numbers; only the latent and one rotary key shared by all heads need to
be cached. With B elements of a key without position, P rotary ones and K of a value:

    reexpanded       caches latents and expands all of them again at every step (what transformers does)
    cached_expanded  expands new rows once and caches keys and values like any other model
    absorbed         moves the expansion to the queries and to the weighted sum: the latents are the
                     keys and values of one head that all queries share (what engines do)
"""

from kvsim.arrays import Array
from kvsim.config import Config, Latent, LayerKind
from kvsim.ops import Ops
from kvsim.spans import View, narrower
from kvsim.transformer.attention import Scoring, Sequence, attend, merge_heads
from kvsim.transformer.positions import Encode, Positions
from kvsim.weights import LatentAttention


def make_queries(ops: Ops, config: Config, latent: Latent, w: LatentAttention, x_TD: Array) -> Array:
    """Queries of every head, the part without position first, then the rotary part: [H, T, B + P]."""
    xp = ops.xp
    if w.query_down is not None and w.query_norm is not None:
        x_TD = ops.norm("rms", ops.linear("query_down", x_TD, w.query_down), w.query_norm, latent.norm_eps)
    flat = ops.linear("query", x_TD, w.query)
    q_THK = xp.reshape(flat, (x_TD.shape[0], config.n_heads, latent.d_nope + latent.d_rope))
    return xp.permute_dims(q_THK, (1, 0, 2))


def expand(ops: Ops, config: Config, latent: Latent, w: LatentAttention, latents: Array) -> tuple[Array, Array]:
    """Latents [S, L] expanded to keys without position [H, S, B] and values [H, S, K]."""
    xp = ops.xp
    flat = ops.linear("expand", latents, w.expand)
    both = xp.reshape(flat, (latents.shape[0], config.n_heads, latent.d_nope + latent.d_value))
    both = xp.permute_dims(both, (1, 0, 2))
    return both[..., : latent.d_nope], both[..., latent.d_nope :]


def whole_keys(ops: Ops, nope: Array, rope: Array) -> Array:
    """Each head's part [H, S, B] concatenated with the shared rotary part [1, S, P]: [H, S, B + P]."""
    shared = ops.xp.broadcast_to(rope, (nope.shape[0], *rope.shape[1:]))
    return ops.xp.concat([nope, shared], axis=-1)


def attend_expanded(ops: Ops, q: Array, view: View, scoring: Scoring) -> Array:
    """Plain multi-head attention: [T, H·K]."""
    return merge_heads(ops, attend(ops, q[:, None, :, :], view, scoring))


def attend_absorbed(
    ops: Ops, config: Config, latent: Latent, w: LatentAttention, q: Array, view: View, scoring: Scoring
) -> Array:
    """Queries [H, T, B + P] against latents [1, S, L] and rotary keys [1, S, P]: [T, H·K]."""
    xp = ops.xp
    weight = xp.reshape(w.expand.weight, (config.n_heads, latent.d_nope + latent.d_value, latent.rank))
    for_keys, for_values = weight[:, : latent.d_nope, :], weight[:, latent.d_nope :, :]
    moved = ops.matmul("absorb_query", q[..., : latent.d_nope], for_keys)  # [H, T, L]
    whole = xp.concat([moved, q[..., latent.d_nope :]], axis=-1)[None, ...]  # [1, H, T, L + P]
    one_head = view._replace(keys=xp.concat([view.keys, view.values], axis=-1), values=view.keys)
    context = attend(ops, whole, one_head, scoring)[0, ...]  # [H, T, L]
    context = ops.matmul("absorb_value", context, xp.matrix_transpose(for_values))
    return merge_heads(ops, context[:, None, :, :])


def latent_attention(
    ops: Ops, config: Config, kind: LayerKind, w: LatentAttention, x_TD: Array, sequences: list[Sequence], layer: int,
    positions: Positions,
) -> Array:  # fmt: skip
    """[T, D] to [T, D], in the form `config.latent.form`."""
    xp, latent = ops.xp, config.latent
    assert latent is not None
    scale = (latent.d_nope + latent.d_rope) ** -0.5 if kind.scale is None else kind.scale
    q = make_queries(ops, config, latent, w, x_TD)
    both = ops.linear("latent", x_TD, w.latent)
    latents = ops.norm("rms", both[:, : latent.rank], w.latent_norm, latent.norm_eps)
    rotary = both[:, latent.rank :]
    contexts = []
    for s in sequences:
        new, new_rotary = latents[s.rows, :], rotary[s.rows, :][None, :, :]
        if latent.form == "cached_expanded":
            nope, values = expand(ops, config, latent, w, new)
            encode = _encode_last(positions, kind, latent)
            views = s.layers[layer].update(whole_keys(ops, nope, new_rotary), values, s.pos, encode)
        else:
            encode = positions.encoder_of_values(kind.rope)
            views = s.layers[layer].update(new[None, :, :], new_rotary, s.pos, encode)
        for view in views:
            scoring = Scoring(scale, positions.mask(view.query_pos, view.key_pos, narrower(kind.window, view.window)))
            q_here = q[:, s.rows, :][:, view.queries, :]
            turned = positions.rotate(kind.rope, q_here[..., latent.d_nope :], view.query_pos)
            here = xp.concat([q_here[..., : latent.d_nope], turned], axis=-1)
            if latent.form == "absorbed":
                contexts.append(attend_absorbed(ops, config, latent, w, here, view, scoring))
            elif latent.form == "reexpanded":
                nope, values = expand(ops, config, latent, w, view.keys[0, ...])
                expanded = view._replace(keys=whole_keys(ops, nope, view.values), values=values)
                contexts.append(attend_expanded(ops, here, expanded, scoring))
            else:
                contexts.append(attend_expanded(ops, here, view, scoring))
    context_T_HK = contexts[0] if len(contexts) == 1 else xp.concat(contexts, axis=0)
    return ops.linear("output", context_T_HK, w.output)


def _encode_last(positions: Positions, kind: LayerKind, latent: Latent) -> Encode:
    """Rotary on the last P elements of whole keys."""
    xp = positions.ops.xp

    def encode(keys: Array, values: Array, pos: object) -> tuple[Array, Array]:
        turned = positions.rotate(kind.rope, keys[..., latent.d_nope :], pos)  # type: ignore[arg-type]
        return xp.concat([keys[..., : latent.d_nope], turned], axis=-1), values

    return encode
