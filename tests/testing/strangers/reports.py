"""Public bug reports, and other mistakes, in one small NumPy engine that shares no code with the package or with
`numpy_decoders`: arrays are tokens first, masks come from positions, heads are looped over. The words are our own.

A comment on a class states the report and the expected diagnosis: `# report: owner/repository#number: id`.
"""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Engine:
    """Correct. Rows of a layer: keys and values [S, G, K], and the positions that masks take them to have."""

    def __init__(self, weights):
        self.w, self.c, self.fed = weights, weights.config, 0
        empty = np.zeros((0, self.c.kv_heads, self.c.d_head))
        self.rows = [(empty, empty, np.zeros(0, int)) for _ in range(self.c.layers)]

    def rms(self, x, name):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + self.c.norm_eps) * self.w[name]

    def turn(self, x, at):
        """x [T, heads, K] rotated by the positions `at`."""
        if self.c.rope != "half":
            return x
        half = self.c.d_head // 2
        angle = np.asarray(at)[:, None, None] / self.c.rope_theta ** (np.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    def places(self, n):
        """The positions that the n new tokens are rotated by, or looked up at."""
        return np.arange(self.fed, self.fed + n)

    def query_places(self, n):
        return self.places(n)

    def store(self, layer, k, v):
        """Append; what attention reads: keys, values, positions."""
        at = np.arange(self.fed, self.fed + len(k))
        old = self.rows[layer]
        self.rows[layer] = tuple(np.concatenate(pair) for pair in zip(old, (k, v, at), strict=True))
        return self.rows[layer]

    def sees(self, at, keys_at):
        """[T, S]"""
        near = keys_at > at[:, None] - (self.c.window or 10**6)
        return (keys_at <= at[:, None]) & near

    def bias(self, head, at, keys_at):
        return 2.0 ** (-8 * (head + 1) / self.c.heads) * (keys_at - at[:, None]) if self.c.rope == "alibi" else 0.0

    def attend(self, q, k, v, keys_at):
        at, out = np.arange(self.fed, self.fed + len(q)), np.empty_like(q)
        shared = self.c.heads // self.c.kv_heads
        for head in range(self.c.heads):
            scores = q[:, head] @ k[:, head // shared].T / np.sqrt(self.c.d_head) + self.bias(head, at, keys_at)
            out[:, head] = softmax(np.where(self.sees(at, keys_at), scores, -1e30)) @ v[:, head // shared]
        return out.reshape(len(q), -1)

    def layer(self, i, x):
        n, name = len(x), f"model.layers.{i}."
        y = self.rms(x, name + "input_layernorm.weight")
        q, k, v = ((y @ self.w[f"{name}self_attn.{p}_proj.weight"].T).reshape(n, -1, self.c.d_head) for p in "qkv")
        read = self.store(i, self.turn(k, self.places(n)), v)
        x = x + self.attend(self.turn(q, self.query_places(n)), *read) @ self.w[name + "self_attn.o_proj.weight"].T
        y = self.rms(x, name + "post_attention_layernorm.weight")
        gate = y @ self.w[name + "mlp.gate_proj.weight"].T
        hidden = gate / (1 + np.exp(-gate)) * (y @ self.w[name + "mlp.up_proj.weight"].T)
        return x + hidden @ self.w[name + "mlp.down_proj.weight"].T

    def forward(self, ids):
        x = self.w["model.embed_tokens.weight"][np.asarray(ids)]
        if self.c.rope == "learned":
            x = x + self.w["model.embed_positions.weight"][self.places(len(ids))]
        for i in range(self.c.layers):
            x = self.layer(i, x)
        self.fed += len(ids)
        return self.rms(x, "model.norm.weight") @ self.w["lm_head.weight"].T


class WarmChunk(Engine):  # report: lablup/mlxcel#413: ring_buffer_prefill_longer_than_window
    """A chunk after cached rows is clamped to the window before it is read."""

    def store(self, layer, k, v):
        warm = len(self.rows[layer][0]) > 0
        read = super().store(layer, k, v)
        if warm:
            read = tuple(part[-self.c.window :] for part in read)
        return read


class SmallRing(Engine):  # report: pytorch/executorch#20346: ring_buffer_prefill_longer_than_window
    """A ring of two windows is written before it is read: a long chunk loses the tail of the chunk before."""

    def store(self, layer, k, v):
        return tuple(part[-2 * self.c.window :] for part in super().store(layer, k, v))


class SecondPrompt(Engine):  # report: huggingface/transformers#36013: rope_decoded_tokens_forgotten
    """The positions of a new prompt follow the prompts before it."""

    prompts = new = 0

    def places(self, n):
        if n > 1 or self.fed == 0:
            return np.arange(self.prompts, self.prompts + n)
        return super().places(n)

    def forward(self, ids):
        out = super().forward(ids)
        if len(ids) > 1 or self.prompts == 0:
            self.prompts += len(ids)
        return out


class AnswerLost(Engine):  # report: Blaizzy/mlx-vlm#1715: decoded_rows_dropped
    """What is cached is cut back to the prompts when the next prompt comes."""

    prompts = 0

    def store(self, layer, k, v):
        if len(k) > 1 or self.fed == 0:
            self.rows[layer] = tuple(part[: self.prompts] for part in self.rows[layer])
            self.prompts += len(k) if layer == self.c.layers - 1 else 0
        return super().store(layer, k, v)


class MaskWithoutOffset(Engine):  # report: huggingface/candle#3743: mask_top_left
    """The mask of a chunk starts at column 0; one token needs none but the window."""

    def sees(self, at, keys_at):
        if len(at) == 1:
            return super().sees(at, keys_at)
        row, column = np.arange(len(at))[:, None], np.arange(len(keys_at))
        return (column <= row) & (column > row - (self.c.window or 10**6))


class KeptRows(Engine):  # report: rajveer43/VeloxQuant-MLX#195: rope_pos_from_rows_kept
    """Positions continue from the number of rows that are left."""

    def places(self, n):
        return np.arange(n) + min(self.fed, self.c.window - 1)


class EvictsFirst(Engine):  # report: rajveer43/VeloxQuant-MLX#370: ring_buffer_prefill_longer_than_window
    """Evicts down to its budget before the queries of the chunk have run."""

    def store(self, layer, k, v):
        self.rows[layer] = tuple(part[-self.c.window :] for part in super().store(layer, k, v))
        return self.rows[layer]


class TableRestarts(Engine):  # report: ml-explore/mlx-lm#93: learned_pos_restarts_at_0
    def places(self, n):
        return np.arange(n)


class OffsetReadTwice(Engine):  # report: ml-explore/mlx-lm#1384: rope_query_after_append
    """Keys are rotated, the cache is updated, and then queries are rotated by its new offset."""

    def query_places(self, n):
        return self.places(n) + n


class TrimmedForOne(Engine):  # report: ml-explore/mlx-lm#1914: window_from_first_query
    """Rows are trimmed as if one token came, and nothing else applies the window."""

    def store(self, layer, k, v):
        kept = self.c.window - 1
        self.rows[layer] = tuple(part[max(len(part) - kept, 0) :] for part in self.rows[layer])
        return super().store(layer, k, v)

    def sees(self, at, keys_at):
        return keys_at <= at[:, None]


class TrimmedByBuffer(Engine):  # report: ml-explore/mlx-lm#1673: window_trimmed_by_capacity
    """The buffer grows by 4 slots, and its last slots are kept, written or not."""

    def store(self, layer, k, v):
        slots = (len(self.rows[layer][0]) + 3) // 4 * 4
        if slots > self.c.window:
            self.rows[layer] = tuple(part[slots - self.c.window :] for part in self.rows[layer])
        return super().store(layer, k, v)


class LeftPadding(Engine):  # report: unslothai/unsloth#3699: padding_attended
    """The prompt is padded on the left to a multiple of 8, without a mask."""

    def forward(self, ids):
        padding = 0 if self.fed else -len(ids) % 8
        return super().forward([0] * padding + list(ids))[padding:]


class OnePosition(Engine):  # report: jundot/omlx#2363: rope_chunk_at_one_position
    def places(self, n):
        return np.full(n, self.fed)


class WrittenEarly(Engine):  # report: jundot/omlx#2172: rows_written_early
    """New rows go to the slots from one before the end."""

    def store(self, layer, k, v):
        self.rows[layer] = tuple(part[:-1] for part in self.rows[layer])
        return super().store(layer, k, v)


class WindowOfChunk(Engine):  # report: pytorch/executorch#21857: window_from_first_query
    """The window is applied to the start of the chunk."""

    def sees(self, at, keys_at):
        return (keys_at <= at[:, None]) & (keys_at > at[0] - (self.c.window or 10**6))


class PromptTwice(Engine):  # report: skyzh/tiny-llm#46: rope_prompt_counted_twice
    """The offset is advanced by the prompt in the prefill, and again before the first decode step."""

    prompt = 0

    def places(self, n):
        return super().places(n) + self.prompt

    def forward(self, ids):
        first, out = self.fed == 0, super().forward(ids)
        self.prompt = len(ids) if first else self.prompt
        return out


class NoDistance(Engine):  # report: keras-team/keras-hub#2861: alibi_zero_in_decode
    """In a step of one token the bias is that of a text of one token."""

    def bias(self, head, at, keys_at):
        return super().bias(head, at, keys_at) if len(at) > 1 else 0.0


class PastOnly(Engine):  # report: harvard-edge/cs249r_book#1953: new_token_not_visible
    """A decode step attends to the cache, and stores its own row afterwards."""

    def store(self, layer, k, v):
        old = self.rows[layer]
        new = super().store(layer, k, v)
        return old if len(k) == 1 and len(old[0]) else new


class FirstLost(Engine):  # report: TrenTorch#192: first_token_never_written
    """The first row goes to a cache that is then replaced by an empty one."""

    def store(self, layer, k, v):
        read = super().store(layer, k, v)
        if self.fed == 0:
            self.rows[layer] = tuple(part[1:] for part in read)
        return read


class LastBlockForAll(Engine):  # report: TrenTorch#141: layers_share_one_cache
    """Past rows come from the last block's cache."""

    def store(self, layer, k, v):
        past = tuple(part[: self.fed] for part in self.rows[-1])
        at = np.arange(self.fed, self.fed + len(k))
        super().store(layer, k, v)
        return tuple(np.concatenate(pair) for pair in zip(past, (k, v, at), strict=True))


class NoMaskOnceCached(Engine):  # report: Mikyx-1/TinyLLM#18: mask_only_when_square
    def sees(self, at, keys_at):
        return super().sees(at, keys_at) if self.fed == 0 else np.full((len(at), len(keys_at)), True)


class LayersReadEmbedding(Engine):  # report: : layer_input_is_embedding
    """Once something is cached, every layer is given the embedding."""

    def layer(self, i, x):
        self.first = x if i == 0 else self.first
        return super().layer(i, self.first if self.fed else x)


class NoNormInDecode(Engine):  # report: : norm_skipped_once_cached
    def rms(self, x, name):
        skipped = len(x) == 1 and name.endswith("input_layernorm.weight")
        return x if skipped else super().rms(x, name)


class ReadsZeros(Engine):  # report: : unwritten_slots_read
    """Reads all 64 slots that were allocated."""

    def store(self, layer, k, v):
        keys, values, at = super().store(layer, k, v)
        empty = np.zeros((64 - len(keys), *keys.shape[1:]))
        return np.concatenate([keys, empty]), np.concatenate([values, empty]), np.append(at, [0] * len(empty))


class LengthBefore(Engine):  # report: : context_length_before_step
    """Keys are counted before the step's own are stored."""

    def sees(self, at, keys_at):
        return super().sees(at, keys_at) & (keys_at <= at[:, None] - len(at)) if self.fed else super().sees(at, keys_at)


class DropsLate(Engine):  # report: : window_trimmed_late
    """Decode steps have no mask: rows that leave the window are dropped after each of them, and after no prompt."""

    def store(self, layer, k, v):
        read = super().store(layer, k, v)
        if len(k) == 1:
            self.rows[layer] = tuple(part[max(len(part) - self.c.window + 1, 0) :] for part in read)
        return read

    def sees(self, at, keys_at):
        return super().sees(at, keys_at) if len(at) > 1 else np.full((1, len(keys_at)), True)


class DropsNewest(Engine):  # report: : window_evicts_newest
    """A full cache takes no more rows; once something is cached, all of them are seen."""

    def store(self, layer, k, v):
        read = super().store(layer, k, v)
        self.rows[layer] = tuple(part[: self.c.window - 1] for part in read)
        return read

    def sees(self, at, keys_at):
        if self.fed == 0 and len(at) > 1:
            return super().sees(at, keys_at)
        return keys_at <= at[:, None]


class KeptInHalf(Engine):  # report: : cache_rounded
    """The cache is in float16."""

    def store(self, layer, k, v):
        return super().store(layer, k.astype(np.float16).astype(k.dtype), v.astype(np.float16).astype(v.dtype))


class TableFromTwo(Engine):  # report: : learned_pos_starts_elsewhere
    def places(self, n):
        return super().places(n) + 2


class TableOneOff(Engine):  # report: : learned_pos_off_by_one
    def places(self, n):
        return super().places(n) - (1 if n == 1 and self.fed else 0)


class TableForgets(SecondPrompt):  # report: : learned_pos_decoded_forgotten
    pass


class TableOnePosition(OnePosition):  # report: : learned_pos_chunk_at_one
    pass


class TableAfterAppend(Engine):  # report: : learned_pos_after_append
    def places(self, n):
        return super().places(n) + n


class TableNotReset(Engine):  # report: : learned_pos_not_reset
    """Rows are cleared for the next text, and the offset of positions is another attribute."""

    offset = 0

    def places(self, n):
        return np.arange(self.offset, self.offset + n)

    def forward(self, ids):
        out = super().forward(ids)
        self.offset += len(ids)
        return out

    def clear_cache(self):
        self.rows, self.fed = [tuple(part[:0] for part in rows) for rows in self.rows], 0


class WindowOfLast(Engine):  # report: : window_from_last_query
    """The rows before the last query's window are cut off for the whole chunk."""

    def sees(self, at, keys_at):
        return (keys_at <= at[:, None]) & (keys_at > at[-1] - self.c.window)
