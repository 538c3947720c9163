"""A torch decoder of batches, as transformers has them: right, and with mistakes in `reorder_cache`. A comment states
the expected diagnosis: `# expect: id`."""

import copy

import torch
from torch.nn import functional

from tests.testing.strangers.torch_styles import TorchDecoder


class Batches(TorchDecoder):
    """Three sequences: buffers [layers, 3, G, context, K]."""

    def __init__(self, weights):
        super().__init__(weights)
        self.keys, self.values = (x.repeat(1, 3, 1, 1, 1) for x in (self.keys, self.values))

    def heads(self, x, name):
        y = functional.linear(x, self.w[name])
        return y.view(*x.shape[:2], -1, self.c.d_head).transpose(1, 2)

    @torch.no_grad()
    def forward(self, ids):
        x = functional.embedding(torch.tensor(ids), self.w["model.embed_tokens.weight"])
        for i in range(self.c.layers):
            x = self.layer(i, x)
        self.seen += len(ids[0])
        return functional.linear(self.norm(x, "model.norm.weight"), self.w["lm_head.weight"])

    def crop(self, length):
        self.seen = length

    def fork(self):
        other = copy.copy(self)
        other.keys, other.values = self.keys.clone(), self.values.clone()
        return other

    def reorder_cache(self, beams):
        self.keys, self.values = self.keys.index_select(1, beams), self.values.index_select(1, beams)


class NotOverridden(Batches):  # expect: reorder_not_done
    def reorder_cache(self, beams):
        pass


class OnlyKeys(Batches):  # expect: reorder_keys_only
    def reorder_cache(self, beams):
        self.keys = self.keys.index_select(1, beams)


class IndexCopy(Batches):  # expect: reorder_inverted
    def reorder_cache(self, beams):
        self.keys = self.keys.index_copy(1, beams, self.keys)
        self.values = self.values.index_copy(1, beams, self.values)


class RowByRow(Batches):  # expect: reorder_not_copied
    def reorder_cache(self, beams):
        for place, i in enumerate(beams):
            self.keys[:, place], self.values[:, place] = self.keys[:, i], self.values[:, i]


class SharedBuffers(Batches):  # expect: fork_shares_tail
    def fork(self):
        return copy.copy(self)
