"""Products of torch tensors, seen: every operation on the way to a kernel, what it multiplies, and what torch's own
FlopCounterMode counts of it.

The counter stands in front: it takes composite operations apart. What is left comes by here. A tensor is known by its
storage, so that views and places that are written to are what was put into them. An operation that is not known and
touches weights, queries, keys or values makes the counts unknown; so do FLOPs of the counter that are none of ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kvsim.testing.subject.products import CELLS, NOTHING, ROWS, Kinds, Operand, Tally
from kvsim.testing.subject.weights import ModelWeights

# Where the two operands stand.
PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
UNCOUNTED = ("mv", "dot", "vdot", "addmv")  # by FlopCounterMode, and so is attention on the CPU
FUSED = ("efficient", "flash", "cudnn", "fused")  # attention in one operation: q, k and v come first
CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
MULTIPLIED = {"mul", "mul_", "addcmul", "addcmul_"}
# Operations beside views and those of single numbers that make no products.
HARMLESS = {
    "cat", "stack", "clone", "_to_copy", "copy_", "index", "index_select", "gather", "index_put", "index_put_",
    "_index_put_impl_", "slice_scatter", "select_scatter", "scatter", "scatter_", "constant_pad_nd", "repeat", "roll",
    "flip", "tril", "triu", "sum", "mean", "amax", "amin", "max", "min", "var", "std", "_softmax", "_log_softmax",
    "_safe_softmax", "logsumexp", "masked_fill", "masked_fill_", "fill_", "zero_", "empty_like", "zeros_like",
    "ones_like", "new_zeros", "new_empty", "new_full", "full_like", "native_layer_norm", "_fused_rms_norm",
    "index_copy", "index_copy_", "embedding", "topk", "sort", "resize_", "set_", "native_dropout",
    "linalg_vector_norm", "_unsafe_view", "_reshape_alias",
}  # fmt: skip


def wide(x: Any) -> Any:
    """A tensor's numbers in float64 on the host."""
    return x.detach().to("cpu", torch.float64).numpy()


def attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """From shapes [..., T, K], [..., S, K], [..., S, K']."""
    return int(2 * np.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def product_flops(name: str) -> Any:
    at = PRODUCTS[name]
    return lambda *shapes, out_shape=None, **_: int(2 * np.prod(shapes[at]))


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What comes by, told to a tally."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tally, self.flops = tally, 0
        self.kinds: dict[int, Kinds] = {}
        self.held: dict[int, Any] = {}  # storages, so that none is made where another was

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs or {})) if is_real(x)]
        made = [x for x in tree_leaves(out) if is_real(x)]
        kinds = self.note(func, args, given, made)
        for x in made:
            self.keep(x, kinds)
        return out

    def note(self, func: Any, args: Any, given: list[Any], made: list[Any]) -> Kinds:
        """What the results are made of."""
        name = func._overloadpacket.__name__
        if name in PRODUCTS:
            a, b = args[PRODUCTS[name] :][:2]
            self.flops += 2 * made[0].numel() * a.shape[-1]
            return self.tally.product([self.operand(a), self.operand(b)], made[0].numel())
        if name.startswith("_scaled_dot_product") and any(word in name for word in FUSED):
            return self.attend(*args[:3])
        kinds = NOTHING.union(*(self.kinds_of(x) for x in given))
        if func.is_view or name in HARMLESS or not made:
            return kinds
        if torch.Tag.pointwise not in func.tags:
            if kinds or any(self.weights_in(x) for x in given):
                self.tally.lose((CELLS, ROWS), "an operation that is not known, {name}, was given weights, queries,"
                                " keys or values", name=name)  # fmt: skip
        elif name in MULTIPLIED:
            factors = [self.operand(x) for x in given if x.numel() > 1 and not x.is_complex()]
            return kinds if len(factors) < 2 else self.tally.multiply(factors, made[0].numel())
        return kinds

    def attend(self, q: Any, k: Any, v: Any) -> Kinds:
        """Scores and what they weigh, in one operation."""
        self.flops += attention_flops(q.shape, k.shape, v.shape)
        scores = int(np.prod(q.shape[:-1])) * k.shape[-2]
        if not all(kind in self.kinds_of(x) for kind, x in (("query", q), ("key", k), ("value", v))):
            return self.tally.lose((CELLS,), "attention was given arrays that are not told to be queries, keys and"
                                   " values")  # fmt: skip
        self.tally.products += 2
        self.tally.cells += scores
        self.tally.weigh(scores, int(np.prod(q.shape[:-1])) * v.shape[-1])
        return frozenset({"context"})

    def weights_in(self, x: Any) -> set[str]:
        """What kinds of the reference's weights a tensor is."""
        if x.dim() < 2 or x.is_complex():
            return set()
        return set(self.tally.rows.find(wide(x), dtype_of(x)))

    def operand(self, x: Any) -> Operand:
        return Operand(wide(x), dtype_of(x), self.kinds_of(x))

    def kinds_of(self, x: Any) -> Kinds:
        return self.kinds.get(x.untyped_storage()._cdata, NOTHING)

    def keep(self, x: Any, kinds: Kinds) -> None:
        """What a tensor is made of, beside what else its storage holds."""
        storage = x.untyped_storage()
        self.held[storage._cdata], self.kinds[storage._cdata] = storage, self.kinds_of(x) | kinds


def is_real(x: Any) -> bool:
    """A tensor of floating point numbers, or of pairs of them."""
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def dtype_of(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


@contextmanager
def watching(weights: ModelWeights) -> Iterator[Tally]:
    """While this is open, products of torch tensors are counted; when it closes, by two counters that must agree."""
    tally = Tally(weights)
    products, aten = Products(tally), torch.ops.aten
    own = {getattr(aten, name): product_flops(name) for name in UNCOUNTED}
    own[getattr(aten, CPU_ATTENTION)] = attention_flops
    with products, FlopCounterMode(display=False, custom_mapping=own) as counter:
        yield tally
    tally.flops = counter.get_total_flops()
    if tally.flops != products.flops:
        tally.lose((CELLS, ROWS), "torch's FlopCounterMode counts {flops} FLOPs, and {known} of them are products that"
                   " were seen", flops=tally.flops, known=products.flops)  # fmt: skip
