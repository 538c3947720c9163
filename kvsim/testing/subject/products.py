"""Matrix products in the decoder under test, classified: projections, scores, contexts, and what cannot be identified.

A projection is identified by its weights: their rows are those of the reference, rounded to some number format, however
they were copied, transposed, sliced or concatenated. Scores and contexts are identified by what their operands were
computed from. A product that is neither makes a count unknown, with the reason: nothing unknown is counted as zero.
"""

from collections import Counter
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.rounding import FORMATS, rounding
from kvsim.testing.subject.calls import Problem
from kvsim.testing.subject.weights import ModelWeights

Kinds = frozenset[str]  # what an array was computed from: "query", "key", "value", "scores", "context"
NO_KINDS: Kinds = frozenset()
PROJECTED: Kinds = frozenset({"query", "key", "value"})
KINDS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
CELLS, ROWS = "score_cells", "projected_rows"


class Operand(NamedTuple):
    """An operand of a product: its elements in float64, its dtype, and what it was computed from (None: unknown)."""

    values: Any
    dtype: str
    kinds: Kinds | None


class WeightRows:
    """The rows of the reference's weight matrices, looked up by their values."""

    def __init__(self, weights: ModelWeights) -> None:
        self.matrices = [
            (next((kind for part, kind in KINDS.items() if part in name), "other"), np.array(x, np.float64))
            for name, x in weights.items()
            if x.ndim == 2 and "embed" not in name
        ]
        self.lengths = {x.shape[1] for _, x in self.matrices}
        self._tables: dict[str, dict[bytes, str]] = {}

    def table(self, dtype: str) -> dict[bytes, str]:
        """The kind of every row, by its bytes after rounding to `dtype`: at once, or through float32, as libraries
        do."""
        if dtype not in self._tables:
            keep, single = rounding(dtype), rounding("float32")
            table = {}
            for kind, x in self.matrices:
                for rounded in (keep(x), keep(single(x))):
                    table.update({row.tobytes(): kind for row in np.asarray(rounded, np.float64) + 0.0})  # no -0.0
            self._tables[dtype] = table
        return self._tables[dtype]

    def find(self, x: Any, dtype: str) -> Counter[str]:
        """The number of rows of each kind if `x` consists of weight rows along one of its axes; otherwise empty."""
        if dtype not in FORMATS:
            return Counter()
        table = self.table(dtype)
        for axis, size in enumerate(x.shape):
            if size not in self.lengths or not x.size:
                continue
            rows = np.ascontiguousarray(np.moveaxis(x, axis, -1)).reshape(-1, size) + 0.0
            kinds = [table.get(row.tobytes(), "") for row in rows]
            if "" not in kinds:
                return Counter(kinds)
        return Counter()


class Tally:
    """Counts of one run: elements that left projections, and elements that entered and left attention."""

    def __init__(self, weights: ModelWeights) -> None:
        self.config, self.rows = weights.config, WeightRows(weights)
        self.projected: Counter[str] = Counter()  # elements of the results of projections, by the kind of the weights
        self.cells = 0  # scores computed
        self.weighed = 0  # scores that were multiplied by values
        self.context = 0  # elements of the results of that
        self.products = 0  # products that were identified
        self.flops = 0  # by an independent counter, where there is one
        self.unknown: dict[str, Problem] = {}

    def mark_unknown(self, counts: tuple[str, ...], template: str, **values: Any) -> Kinds:
        """Make `counts` unknown, for this reason unless there is an earlier one."""
        for name in counts:
            self.unknown.setdefault(name, Problem(template, values))
        return NO_KINDS

    def add_product(self, operands: list[Operand], size: int) -> Kinds:
        """Count a matrix product whose result has `size` elements. Returns the kinds of the result."""
        found = [self.rows.find(x.values, x.dtype) for x in operands]
        shapes = [list(x.values.shape) for x in operands]
        if len(operands) != 2 or all(found):
            if any(found) or any(x.kinds for x in operands):
                return self.mark_unknown(
                    (CELLS, ROWS), "a product of arrays of shapes {shapes} cannot be identified", shapes=shapes
                )
            return NO_KINDS
        for rows, other in zip(found, reversed(operands), strict=True):
            if rows:
                return self._add_projection(rows, other, size)
        return self._add_attention(operands[0], operands[1], size)

    def _add_projection(self, rows: Counter[str], other: Operand, size: int) -> Kinds:
        """A product with weights of the reference."""
        total, made = rows.total(), PROJECTED & rows.keys()
        if size % total or (made and other.kinds):
            return self.mark_unknown(
                (ROWS,), "weights of {made} are multiplied by an array of shape {shape} that is not a hidden state",
                made=", ".join(sorted(made)), shape=list(other.values.shape),
            )  # fmt: skip
        if "output" in rows and other.kinds is not None and "context" not in other.kinds:
            self.mark_unknown(
                (CELLS,), "the input of the output projection, of shape {shape}, cannot be identified as the output of"
                " attention", shape=list(other.values.shape),
            )  # fmt: skip
        self.products += 1
        for kind, count in rows.items():
            self.projected[kind] += size // total * count
        return frozenset(made)

    def _add_attention(self, a: Operand, b: Operand, size: int) -> Kinds:
        """A product of two arrays of which neither is a weight of the reference."""
        shapes = [list(x.values.shape) for x in (a, b)]
        if not (a.kinds or b.kinds):
            if all(self.config.d_model in shape for shape in shapes):
                return self.mark_unknown(
                    (ROWS,), "a product of arrays of shapes {shapes} uses no weight of the reference: was a weight"
                    " scaled, quantised or concatenated with another?", shapes=shapes,
                )  # fmt: skip
            return NO_KINDS
        if (a.kinds or NO_KINDS) | (b.kinds or NO_KINDS) == {"context"}:
            return frozenset({"context"})  # an output projection with other weights
        readings = [
            (what, one, other)
            for one, other in ((a, b), (b, a))
            for what, first, second in (("scores", "query", "key"), ("context", "scores", "value"))
            if may_be(one, first) and may_be(other, second)
        ]
        if len({what for what, *_ in readings}) != 1:
            return self.mark_unknown(
                (CELLS,), "a product of arrays of shapes {shapes} cannot be identified as queries times keys: one"
                " operand was computed from both, or from neither", shapes=shapes,
            )  # fmt: skip
        what, one, _ = readings[0]
        self.products += 1
        if what == "scores":
            self.cells += size
        else:
            self.add_context(one.values.size, size)
        return frozenset({what})

    def add_elementwise(self, operands: list[Operand], size: int) -> Kinds:
        """An elementwise product, and the kinds of its result: either the first half of a matrix product written as
        multiply and sum, or all of one that has a single row (torch's einsum computes it so)."""
        made = NO_KINDS.union(*(x.kinds or NO_KINDS for x in operands))
        if len(operands) != 2:
            return made
        a, b = operands
        for one, other in ((a, b), (b, a)):
            if "scores" in (one.kinds or NO_KINDS) and "value" in (other.kinds or NO_KINDS):
                return self._add_elementwise_context(one, other, size)
        first, second = ((x.kinds or NO_KINDS) & PROJECTED for x in (a, b))
        if first and second and (first != second or len(first) > 1):
            self.mark_unknown((CELLS,), "queries and keys were multiplied elementwise")
        if any(PROJECTED & self.rows.find(x.values, x.dtype).keys() for x in operands):
            self.mark_unknown((ROWS,), "weights were multiplied elementwise")
        return made

    def _add_elementwise_context(self, scores: Operand, value: Operand, size: int) -> Kinds:
        """Scores times values. With one row of values for each head this is the whole product; with several, a sum
        follows that is not seen."""
        pairs = zip(reversed(scores.values.shape), reversed(value.values.shape), strict=False)
        shared = [one for one, other in pairs if one == other > 1]
        if len(shared) > 1 or not {*shared} <= {self.config.heads, self.config.kv_heads}:
            return self.mark_unknown((CELLS,), "attention weights and values were multiplied elementwise")
        self.add_context(scores.values.size, size)
        return frozenset({"context"})

    def add_context(self, scores: int, context: int) -> None:
        """Count `scores` elements that were multiplied by values, and `context` elements of the result."""
        self.weighed, self.context = self.weighed + scores, self.context + context

    def projected_rows(self, kind: str) -> Fraction:
        """Rows that went through the projections of a kind, summed over all layers."""
        c = self.config
        widths = {"query": c.heads * c.d_head, "key": c.kv_heads * c.d_head, "value": c.kv_heads * c.d_head,
                  "output": c.d_model}  # fmt: skip
        return Fraction(self.projected[kind], widths[kind])

    def close(self, fed: int) -> None:
        """Make counts unknown that do not add up: scores multiplied by values that were not seen being computed, input
        of the output projection that attention was not seen to compute, or fewer projected rows than `fed` tokens."""
        c = self.config
        attended = self.projected_rows("output") * c.heads * c.d_head
        if self.weighed > self.cells or attended > self.context:
            self.mark_unknown(
                (CELLS,), "{attended} numbers entered the output projection, of which attention was seen to compute"
                " {context}, with {weighed} weights from {cells} scores",
                attended=plain_number(attended), context=self.context, weighed=self.weighed, cells=self.cells,
            )  # fmt: skip
        for kind in sorted(PROJECTED):
            if (rows := self.projected_rows(kind)) < fed * c.layers:
                self.mark_unknown(
                    (ROWS,), "{kind}: {rows} projected rows were seen in {layers} layers, fewer than {fed} tokens in"
                    " each", kind=kind, rows=plain_number(rows), layers=c.layers, fed=fed,
                )  # fmt: skip

    def counts(self) -> dict[str, int | float]:
        """The known ones of: score cells of one head of one layer, projected rows (of Q, K and V) of one layer."""
        c = self.config
        rows = sum((self.projected_rows(kind) for kind in PROJECTED), Fraction())
        counted = {CELLS: Fraction(self.cells, c.heads * c.layers), ROWS: rows / c.layers}
        return {name: plain_number(count) for name, count in counted.items() if name not in self.unknown}


def may_be(x: Operand, kind: str) -> bool:
    """Whether x was computed from arrays of that kind, or may have been: an array filled by hand."""
    return x.kinds is None or kind in x.kinds


def plain_number(x: Fraction) -> int | float:
    """An int if x is whole, otherwise a float."""
    return int(x) if x.denominator == 1 else float(x)
