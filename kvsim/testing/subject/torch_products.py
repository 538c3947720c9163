"""Products of torch tensors, counted: every operation on its way to a kernel, and what torch's own FlopCounterMode
counts of the same run.

The FLOP counter comes first: it decomposes composite operations, so that only basic ones arrive here. Tensors are
identified by their storage, so that a view, or a buffer that is written in place, has the kinds of what was put into
it. An unsupported operation on weights, queries, keys or values makes the counts unknown; so does a difference between
the two FLOP counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kvsim.testing.subject.products import CELLS, NO_KINDS, ROWS, Kinds, Operand, Tally
from kvsim.testing.subject.weights import ModelWeights

# The index of the first of the two operands among the arguments.
PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
UNCOUNTED = ("mv", "dot", "vdot", "addmv")  # FlopCounterMode has no formula for these, nor for attention on the CPU
FUSED = ("efficient", "flash", "cudnn", "fused")  # attention in one operation, with q, k and v as first arguments
CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
MULTIPLIED = {"mul", "mul_", "addcmul", "addcmul_"}
# Operations without products, beside views and pointwise ones.
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
    """A tensor as a NumPy array in float64."""
    return x.detach().to("cpu", torch.float64).numpy()


def attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """FLOPs of both products of attention, from the shapes [..., T, K], [..., S, K], [..., S, K']."""
    return int(2 * np.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def product_flops(name: str) -> Any:
    """A FLOP formula of an operation of PRODUCTS, as FlopCounterMode takes it."""
    at = PRODUCTS[name]
    return lambda *shapes, out_shape=None, **_: int(2 * np.prod(shapes[at]))


class ProductCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the products of every operation that is dispatched, in `tally`, and their FLOPs."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tally, self.flops = tally, 0
        self.kinds: dict[int, Kinds] = {}
        self.storages: dict[int, Any] = {}  # kept alive, so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs or {})) if is_real(x)]
        made = [x for x in tree_leaves(out) if is_real(x)]
        kinds = self.count(func, args, given, made)
        for x in made:
            self.keep(x, kinds)
        return out

    def count(self, func: Any, args: Any, given: list[Any], made: list[Any]) -> Kinds:
        """Count one operation. Returns the kinds of its results."""
        name = func._overloadpacket.__name__
        if name in PRODUCTS:
            a, b = args[PRODUCTS[name] :][:2]
            self.flops += 2 * made[0].numel() * a.shape[-1]
            return self.tally.add_product([self.operand(a), self.operand(b)], made[0].numel())
        if name.startswith("_scaled_dot_product") and any(word in name for word in FUSED):
            return self.attend(*args[:3])
        kinds = NO_KINDS.union(*(self.kinds_of(x) for x in given))
        if func.is_view or name in HARMLESS or not made:
            return kinds
        if torch.Tag.pointwise not in func.tags:
            if kinds or any(self.weights_in(x) for x in given):
                self.tally.mark_unknown(
                    (CELLS, ROWS), "the unsupported operation {name} was applied to weights, queries, keys or values",
                    name=name,
                )  # fmt: skip
        elif name in MULTIPLIED:
            factors = [self.operand(x) for x in given if x.numel() > 1 and not x.is_complex()]
            return kinds if len(factors) < 2 else self.tally.add_elementwise(factors, made[0].numel())
        return kinds

    def attend(self, q: Any, k: Any, v: Any) -> Kinds:
        """Count both products of a fused attention. Returns the kinds of its result."""
        self.flops += attention_flops(q.shape, k.shape, v.shape)
        scores = int(np.prod(q.shape[:-1])) * k.shape[-2]
        if not all(kind in self.kinds_of(x) for kind, x in (("query", q), ("key", k), ("value", v))):
            return self.tally.mark_unknown(
                (CELLS,), "fused attention was given arrays that cannot be identified as queries, keys and values"
            )
        self.tally.products += 2
        self.tally.cells += scores
        self.tally.add_context(scores, int(np.prod(q.shape[:-1])) * v.shape[-1])
        return frozenset({"context"})

    def weights_in(self, x: Any) -> set[str]:
        """The kinds of the reference's weights that a tensor consists of; none if it is not made of them."""
        if x.dim() < 2 or x.is_complex():
            return set()
        return set(self.tally.rows.find(wide(x), dtype_of(x)))

    def operand(self, x: Any) -> Operand:
        """A tensor as an operand."""
        return Operand(wide(x), dtype_of(x), self.kinds_of(x))

    def kinds_of(self, x: Any) -> Kinds:
        """What the contents of a tensor's storage were computed from."""
        return self.kinds.get(x.untyped_storage()._cdata, NO_KINDS)

    def keep(self, x: Any, kinds: Kinds) -> None:
        """Add `kinds` to those of a tensor's storage."""
        storage = x.untyped_storage()
        self.storages[storage._cdata], self.kinds[storage._cdata] = storage, self.kinds_of(x) | kinds


def is_real(x: Any) -> bool:
    """Whether x is a tensor of floating point or complex numbers."""
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def dtype_of(x: Any) -> str:
    """The name of a tensor's dtype, without "torch."."""
    return str(x.dtype).rpartition(".")[2]


@contextmanager
def count_torch_products(weights: ModelWeights) -> Iterator[Tally]:
    """Count the products of torch tensors while the block runs, and compare the FLOPs with those of FlopCounterMode."""
    tally = Tally(weights)
    products, aten = ProductCounter(tally), torch.ops.aten
    own = {getattr(aten, name): product_flops(name) for name in UNCOUNTED}
    own[getattr(aten, CPU_ATTENTION)] = attention_flops
    with products, FlopCounterMode(display=False, custom_mapping=own) as counter:
        yield tally
    tally.flops = counter.get_total_flops()
    if tally.flops != products.flops:
        tally.mark_unknown(
            (CELLS, ROWS), "torch's FlopCounterMode counts {flops} FLOPs, of which {known} belong to products that were"
            " seen", flops=tally.flops, known=products.flops,
        )  # fmt: skip
