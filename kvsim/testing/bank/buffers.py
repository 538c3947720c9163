"""Mistakes of attention that reads buffers, of which each sequence has filled a length: rows past it, or another
sequence's length."""

from typing import Any

import numpy as np

from kvsim.testing.bank.mistake import in_buffers, mistake_in_buffers
from kvsim.testing.bank.paths import SEVERAL, SINGLE
from kvsim.testing.independent.attention import AttentionInputs
from kvsim.testing.independent.decoder import Decoder


@in_buffers("unwritten_slots_read", paths=(SINGLE,))
class AllRowsSeen(Decoder):
    """Without any mask: every row of the buffer."""

    def buffer_rows(self, length: int, size: int) -> int:
        return size

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return np.full(len(inputs.key_pos), True)


@in_buffers("unwritten_slots_read", paths=(SINGLE,))
class TailSeen(Decoder):
    """A mask only among the rows that were written."""

    def buffer_rows(self, length: int, size: int) -> int:
        return size

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) | (inputs.key_pos > inputs.query_pos[-1])


class TailOfBlockSeen(TailSeen):
    """Of the last block alone."""

    slots = 16

    def buffer_rows(self, length: int, size: int) -> int:
        return -(-length // self.slots) * self.slots


for _size in (4, 8, 16, 32):
    in_buffers("unwritten_slots_read", paths=(SINGLE,))(
        type(f"TailOfBlock{_size}Seen", (TailOfBlockSeen,), {"slots": _size})
    )


@in_buffers("unwritten_slots_read", paths=(SINGLE,))
class OneRowTooMany(TailOfBlockSeen):
    """The length is taken for the index of the last row."""

    def buffer_rows(self, length: int, size: int) -> int:
        return length + 1


@in_buffers("unwritten_slots_read")
class AtTheEnd(Decoder):
    """The queries are taken for those of the buffer's last rows."""

    def buffer_length(self, lengths: Any, sequence: int, size: int) -> int:
        return size

    def buffer_rows(self, length: int, size: int) -> int:
        return size


@in_buffers("unwritten_slots_read")
class WeightsOfZero(Decoder):
    """All rows are read, and the weight of those past the length is 0: right unless they hold NaN."""

    def buffer_rows(self, length: int, size: int) -> int:
        return size


@in_buffers("context_length_before_step", paths=(SINGLE,))
class NewRowsHidden(Decoder):
    """All queries see the rows before the step alone."""

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) & (inputs.key_pos < inputs.query_pos[0])


@in_buffers("context_length_before_step")
class CountedBeforeStep(Decoder):
    """The queries are taken for the last of the rows before the step; the buffer is masked by -inf."""

    def buffer_length(self, lengths: Any, sequence: int, size: int) -> int:
        return int(lengths[sequence]) - self.step[1]

    def buffer_rows(self, length: int, size: int) -> int:
        return size


@in_buffers("context_length_before_step")
class NewRowsHiddenAndZeros(NewRowsHidden):
    """Queries that see nothing give 0."""

    def softmax(self, scores_HTS: Any) -> Any:
        return np.nan_to_num(super().softmax(scores_HTS))


@in_buffers("context_length_before_step")
class CountedBeforeStepAndZeros(CountedBeforeStep):
    """Queries that see nothing give 0."""

    def softmax(self, scores_HTS: Any) -> Any:
        return np.nan_to_num(super().softmax(scores_HTS))


@mistake_in_buffers(
    "newest_row_not_read",
    "the length of a buffer is taken as one less: the newest row of each sequence is not read",
    "缓冲区的长度少算了 1：没有读到每个序列最新的一行",
    (1, 1),
    paths=(SINGLE, SEVERAL),
)
class NewestNotRead(Decoder):
    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) & (inputs.key_pos < inputs.query_pos[-1])


@in_buffers("newest_row_not_read", paths=(SINGLE, SEVERAL))
class NewestNotReadAndZeros(NewestNotRead):
    """Queries that see nothing give 0."""

    def softmax(self, scores_HTS: Any) -> Any:
        return np.nan_to_num(super().softmax(scores_HTS))


@mistake_in_buffers(
    "one_length_for_all",
    "the length of one sequence is used for all sequences of the batch: each has its own",
    "批内所有序列都用了同一个序列的长度：每个序列有自己的长度",
    (1, 1),
)
class FirstLength(Decoder):
    """The first sequence's."""

    def length_of_all(self, lengths: Any) -> int:
        return int(lengths[0])

    def buffer_length(self, lengths: Any, sequence: int, size: int) -> int:
        return self.length_of_all(lengths)


@in_buffers("one_length_for_all")
class LongestLength(FirstLength):
    def length_of_all(self, lengths: Any) -> int:
        return int(max(lengths))


@in_buffers("one_length_for_all")
class ShortestLength(FirstLength):
    def length_of_all(self, lengths: Any) -> int:
        return int(min(lengths))


@in_buffers("one_length_for_all")
class LastLength(FirstLength):
    def length_of_all(self, lengths: Any) -> int:
        return int(lengths[-1])


class OnlyRowsOfOne(FirstLength):
    """Positions are right, and the number of rows is another sequence's."""

    def buffer_length(self, lengths: Any, sequence: int, size: int) -> int:
        self.other = self.length_of_all(lengths)
        return int(lengths[sequence])

    def buffer_rows(self, length: int, size: int) -> int:
        return size

    def visible(self, inputs: AttentionInputs, t: int) -> Any:
        return super().visible(inputs, t) & (inputs.key_pos < self.other)


for _cls in (FirstLength, ShortestLength, LastLength):
    in_buffers("one_length_for_all")(type(f"RowsOf{_cls.__name__}", (OnlyRowsOfOne, _cls), {}))
