"""More wrong decoders in the style of `numpy_decoders` (heads first, concatenated): mistakes that public reports have
shown. A comment states the expected diagnosis: `# expect: id`."""

import numpy as np

from tests.testing.strangers.numpy_decoders import ListOfRows, NumpyDecoder, Preallocated


class Learned(NumpyDecoder):
    """Correct: learned positions instead of rotary ones."""

    def rope(self, x, positions):
        return x

    def table_rows(self, n):
        return np.arange(self.seen, self.seen + n)

    def forward(self, ids):
        x = self.w["model.embed_tokens.weight"][ids] + self.w["model.embed_positions.weight"][self.table_rows(len(ids))]
        for i in range(self.c.layers):
            x = self.layer(i, x)
        self.seen += len(ids)
        return self.linear(self.norm(x, "model.norm.weight"), "lm_head.weight")


class Alibi(NumpyDecoder):
    """Correct: biases instead of rotary positions."""

    def rope(self, x, positions):
        return x

    def distances(self, t, s):
        return np.arange(s) - np.arange(s - t, s)[:, None]

    def attend(self, q, k, v):
        k, v = self.repeat(k), self.repeat(v)
        slopes = 0.5 ** (8 * np.arange(1, self.c.heads + 1) / self.c.heads)
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(self.c.d_head)
        scores = scores + slopes[:, None, None] * self.distances(q.shape[1], k.shape[1])
        scores = np.where(self.mask(q.shape[1], k.shape[1]), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return self.join(weights / weights.sum(-1, keepdims=True) @ v)


class ChunkAtItsStart(Preallocated):  # expect: rope_chunk_at_one_position
    def positions(self, layer, n):
        return np.array([self.seen] * n)


class OffsetTwice(Preallocated):  # expect: rope_prompt_counted_twice
    offset = 0

    def positions(self, layer, n):
        return self.offset + np.arange(n)

    def forward(self, ids):
        out = super().forward(ids)
        self.offset += 2 * len(ids) if self.offset == 0 else len(ids)
        return out


class TurnsWithoutAnswers(NumpyDecoder):  # expect: rope_decoded_tokens_forgotten
    """Each prompt goes on after the last prompt, and its answer after it."""

    at = ended = 0

    def positions(self, layer, n):
        start = self.at if n == 1 and self.seen else self.ended
        return np.arange(start, start + n)

    def forward(self, ids):
        out = super().forward(ids)
        decoded = len(ids) == 1 and self.seen > 1
        self.ended, self.at = (self.ended, self.at + 1) if decoded else [self.ended + len(ids)] * 2
        return out


class QueriesLater(NumpyDecoder):  # expect: rope_query_after_append
    """A decode step asks the cache for its length after the keys are in it."""

    def rope(self, x, positions):
        query = len(x) == self.c.heads and x.shape[1] == 1
        return super().rope(x, positions + 1 if query else positions)


class CountsItsRows(NumpyDecoder):  # expect: rope_pos_from_rows_kept
    """Keeps W rows and counts them."""

    def positions(self, layer, n):
        held = self.caches[layer]
        return np.arange(n) + (0 if held is None else held[0].shape[1])

    def mask(self, t, s):
        return super().mask(t, s)

    def remember(self, layer, k, v):
        k, v = super().remember(layer, k, v)
        self.caches[layer] = k[:, -self.c.window :], v[:, -self.c.window :]
        return k, v


class StartsTheTableAgain(Learned):  # expect: learned_pos_restarts_at_0
    def table_rows(self, n):
        return np.arange(n)


class DecodesOneAhead(Learned):  # expect: learned_pos_off_by_one
    def table_rows(self, n):
        return super().table_rows(n) + (self.seen > 0 and n == 1)


class LengthAfterwards(Learned):  # expect: learned_pos_after_append
    def table_rows(self, n):
        return super().table_rows(n) + n


class TableAtItsStart(Learned):  # expect: learned_pos_chunk_at_one
    def table_rows(self, n):
        return np.repeat(self.seen, n)


class AnswersUncounted(Learned):  # expect: learned_pos_decoded_forgotten
    answers = 0

    def table_rows(self, n):
        return super().table_rows(n) - (self.answers if n > 1 else 0)

    def forward(self, ids):
        self.answers += len(ids) == 1 and self.seen > 0
        return super().forward(ids)


class TableFromOne(Learned):  # expect: learned_pos_starts_elsewhere
    def table_rows(self, n):
        return super().table_rows(n) + 1


TOKENS = {}  # fed so far, with these weights


class CountsAllTexts(Learned):  # expect: learned_pos_not_reset
    """The offset into the table is a module global."""

    def table_rows(self, n):
        before = TOKENS.setdefault(id(self.w), [self.w, 0])
        before[1] += n
        return np.arange(before[1] - n, before[1])


class ForgetsOnlyRows(Learned):  # expect: learned_pos_not_reset
    def __init__(self, weights):
        super().__init__(weights)
        self.offset = 0

    def table_rows(self, n):
        self.offset += n
        return np.arange(self.offset - n, self.offset)

    def reset(self):
        self.caches, self.seen = [None] * self.c.layers, 0


class FirstSlotStaysEmpty(Preallocated):  # expect: first_token_never_written
    """Later steps find zeros where the first row should be."""

    def remember(self, layer, k, v):
        k, v = (x.copy() for x in super().remember(layer, k, v))
        if self.seen:
            k[:, 0], v[:, 0] = 0, 0
        return k, v


class OneSlotBack(NumpyDecoder):  # expect: rows_written_early
    def remember(self, layer, k, v):
        if self.caches[layer] is not None:
            old_k, old_v = (x[:, :-1] for x in self.caches[layer])
            k, v = np.concatenate([old_k, k], axis=1), np.concatenate([old_v, v], axis=1)
        self.caches[layer] = k, v
        return k, v

    def mask(self, t, s):
        """Of the rows' own positions: those of the step are the last."""
        at = np.array(self.rows_at[: s - t] + list(range(self.seen, self.seen + t)))
        query = np.arange(self.seen, self.seen + t)[:, None]
        return (at <= query) & (at > query - (self.c.window or 99))

    rows_at = ()

    def forward(self, ids):
        self.rows_at = list(self.rows_at)[:-1]
        out = super().forward(ids)
        self.rows_at += range(self.seen - len(ids), self.seen)
        return out


class WholeArrays(Preallocated):  # expect: unwritten_slots_read
    """All 64 slots are read, those after the last row by every query."""

    def remember(self, layer, k, v):
        super().remember(layer, k, v)
        return tuple(self.caches[layer])

    def mask(self, t, s):
        n = self.seen + t
        return np.concatenate([super().mask(t, n), np.ones((t, s - n), bool)], axis=1)


class RightPadding(NumpyDecoder):  # expect: padding_attended
    """Chunks are padded to a multiple of 4, and the padding stays in the cache."""

    def forward(self, ids):
        return super().forward(list(ids) + [0] * (-len(ids) % 4))[: len(ids)]


class PromptsOnly(ListOfRows):  # expect: decoded_rows_dropped
    """The list is cut back to the rows of the prompts when another prompt comes; positions go on."""

    def __init__(self, weights):
        super().__init__(weights)
        self.at, self.prompts = [], 0

    def forward(self, ids):
        if len(ids) > 1 or self.seen == 0:
            self.at = self.at[: self.prompts]
            self.caches = [None if rows is None else rows[len(rows) - self.prompts :] for rows in self.caches]
            self.prompts += len(ids)
        self.at = self.at + list(range(self.seen, self.seen + len(ids)))
        return super().forward(ids)

    def mask(self, t, s):
        at, query = np.array(self.at[::-1]), np.arange(self.seen, self.seen + t)[:, None]
        return (at <= query) & (at > query - (self.c.window or 99))


class OldLength(NumpyDecoder):  # expect: context_length_before_step
    def mask(self, t, s):
        if s == t:
            return super().mask(t, s)
        m = super().mask(t, s)
        return np.tril(np.ones((t, s), bool), s - 2 * t) & m


class HalfPrecisionRows(Preallocated):  # expect: cache_rounded
    def remember(self, layer, k, v):
        return super().remember(layer, k.astype(np.float16).astype(k.dtype), v.astype(np.float16).astype(v.dtype))


class SameInput(NumpyDecoder):  # expect: layer_input_is_embedding
    def layer(self, i, x):
        self.x0 = x if i == 0 else self.x0
        return super().layer(i, self.x0)


class NoSecondNorm(NumpyDecoder):  # expect: norm_skipped_once_cached
    def norm(self, x, name):
        return x if self.seen and "post_attention" in name else super().norm(x, name)


class NoSlopes(Alibi):  # expect: alibi_zero_in_decode
    def distances(self, t, s):
        return super().distances(t, s) * (t > 1)


class FirstRowsWindow(NumpyDecoder):  # expect: window_from_first_query
    def mask(self, t, s):
        outside = np.arange(s) <= s - t - (self.c.window or 99)
        return np.tril(np.ones((t, s), bool), s - t) & ~outside


class LastRowsWindow(NumpyDecoder):  # expect: window_from_last_query
    def mask(self, t, s):
        outside = np.arange(s) < s - (self.c.window or 99)
        own = np.arange(s) == np.arange(s - t, s)[:, None]
        return np.tril(np.ones((t, s), bool), s - t) & ~outside | own


class DecodesBeforeTrimming(NumpyDecoder):  # expect: window_trimmed_late
    def mask(self, t, s):
        return super().mask(t, s) if t > 1 else np.ones((1, s), bool)

    def remember(self, layer, k, v):
        n = k.shape[1]
        k, v = super().remember(layer, k, v)
        if n == 1:
            self.caches[layer] = tuple(x[:, max(0, x.shape[1] - self.c.window + 1) :] for x in (k, v))
        return k, v


class CutsTheBuffer(NumpyDecoder):  # expect: window_trimmed_by_capacity
    """Buffers of 8 slots; `-W:` of the buffer keeps empty slots."""

    def remember(self, layer, k, v):
        if self.caches[layer] is not None:
            length = self.caches[layer][0].shape[1]
            first = max(0, -(-length // 8) * 8 - self.c.window)
            self.caches[layer] = tuple(x[:, first:] for x in self.caches[layer])
        return super().remember(layer, k, v)


class FullMeansFull(NumpyDecoder):  # expect: window_evicts_newest
    def mask(self, t, s):
        return super().mask(t, s) if self.seen == 0 else np.tril(np.ones((t, s), bool), s - t)

    def remember(self, layer, k, v):
        k, v = super().remember(layer, k, v)
        self.caches[layer] = k[:, : self.c.window - 1], v[:, : self.c.window - 1]
        return k, v
