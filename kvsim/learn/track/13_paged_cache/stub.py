"""13 paged_cache. The task: kvsim learn show 13. Save, and run kvsim learn run 13."""

import numpy as np  # noqa: F401


class PagedCache:
    """The rows of several sequences, in blocks of one memory. A row [D]: the key and the value of a token, joined.

    memory.take()                   the number of a free block, now yours
    memory.give_back(block)         the block is free again
    memory.write(block, slot, row)  store a row [D]; slots are 0 to size - 1
    memory.read(block)              all slots of a block, [size, D]; those never written hold junk
    """

    def __init__(self, memory, size):
        self.memory, self.size = memory, size

    def append(self, name, rows):
        """Add rows [T, D] to the sequence `name`; its first rows begin it."""
        raise NotImplementedError("write append")

    def read(self, name):
        """All rows of a sequence, [S, D], oldest first."""
        raise NotImplementedError("write read")

    def fork(self, name, new):
        """Begin the sequence `new` with all rows of `name`, in the same blocks."""
        raise NotImplementedError("write fork")

    def free(self, name):
        """End a sequence; give back the blocks that no other sequence holds."""
        raise NotImplementedError("write free")
