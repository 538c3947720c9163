"""What a product of arrays is in somebody else's decoder: a projection, scores, or a context; and what cannot be told.

A projection is known by its weights: their rows are those of the reference, as some number format keeps them, however
they were copied, transposed, cut or joined. Scores are known by where their operands come from. What is neither makes
a count unknown, with the reason: nothing unknown is counted as zero.
"""

from collections import Counter
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from kvsim.testing.independent.rounding import FORMATS, rounding
from kvsim.testing.subject.calls import Problem
from kvsim.testing.subject.weights import ModelWeights

Kinds = frozenset[str]
NOTHING: Kinds = frozenset()
PROJECTED: Kinds = frozenset({"query", "key", "value"})
KINDS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
CELLS, ROWS = "score_cells", "projected_rows"


class Operand(NamedTuple):
    """An array in a product: its numbers in float64, the dtype they are kept in, and what it was made of: "query",
    "key", "value", "scores", "context". None: nobody knows."""

    values: Any
    dtype: str
    kinds: Kinds | None


class WeightRows:
    """The rows of the reference's matrices, found by their values."""

    def __init__(self, weights: ModelWeights) -> None:
        self.matrices = [
            (next((kind for part, kind in KINDS.items() if part in name), "other"), np.array(x, np.float64))
            for name, x in weights.items()
            if x.ndim == 2 and "embed" not in name
        ]
        self.lengths = {x.shape[1] for _, x in self.matrices}
        self._tables: dict[str, dict[bytes, str]] = {}

    def table(self, dtype: str) -> dict[bytes, str]:
        """The kind of every row that a format keeps, rounded at once or by way of float32, as libraries do."""
        if dtype not in self._tables:
            keep, single = rounding(dtype), rounding("float32")
            made = {}
            for kind, x in self.matrices:
                for kept in (keep(x), keep(single(x))):
                    made.update({row.tobytes(): kind for row in np.asarray(kept, np.float64) + 0.0})
            self._tables[dtype] = made
        return self._tables[dtype]

    def find(self, x: Any, dtype: str) -> Counter[str]:
        """How many rows of each kind an array consists of, along any of its axes; none where others are among them."""
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
    """What was seen of one run: numbers that went out of projections, into and out of attention."""

    def __init__(self, weights: ModelWeights) -> None:
        self.config, self.rows = weights.config, WeightRows(weights)
        self.made: Counter[str] = Counter()  # numbers that came out of a product with weights of a kind
        self.cells = self.weighed = self.context = 0  # scores made, scores that met values, numbers that came of that
        self.products = 0  # of which it is known what they are
        self.flops = 0  # by another counter, where there is one
        self.unknown: dict[str, Problem] = {}

    def lose(self, counts: tuple[str, ...], template: str, **values: Any) -> Kinds:
        """These counts cannot be told, and why; the first reason stays."""
        for name in counts:
            self.unknown.setdefault(name, Problem(template, values))
        return NOTHING

    def product(self, operands: list[Operand], size: int) -> Kinds:
        """Count one product with a result of `size` numbers; what its result is made of."""
        found = [self.rows.find(x.values, x.dtype) for x in operands]
        shapes = [list(x.values.shape) for x in operands]
        if len(operands) != 2 or all(found):
            if any(found) or any(x.kinds for x in operands):
                return self.lose((CELLS, ROWS), "a product of arrays of shapes {shapes} cannot be told", shapes=shapes)
            return NOTHING
        for rows, other in zip(found, reversed(operands), strict=True):
            if rows:
                return self.project(rows, other, size)
        return self.meet(operands[0], operands[1], size)

    def project(self, rows: Counter[str], other: Operand, size: int) -> Kinds:
        """Weights meet hidden states."""
        total, made = rows.total(), PROJECTED & rows.keys()
        if size % total or (made and other.kinds):
            return self.lose(
                (ROWS,), "weights of {made} meet an array of shape {shape} that is no hidden state",
                made=", ".join(sorted(made)), shape=list(other.values.shape),
            )  # fmt: skip
        if "output" in rows and other.kinds is not None and "context" not in other.kinds:
            self.lose((CELLS,), "what goes through the output projection, of shape {shape}, is not told to come out of"
                      " attention", shape=list(other.values.shape))  # fmt: skip
        self.products += 1
        for kind, count in rows.items():
            self.made[kind] += size // total * count
        return frozenset(made)

    def meet(self, a: Operand, b: Operand, size: int) -> Kinds:
        """Neither is a weight of the reference."""
        shapes = [list(x.values.shape) for x in (a, b)]
        if not (a.kinds or b.kinds):
            if all(self.config.d_model in shape for shape in shapes):
                return self.lose(
                    (ROWS,), "a product of arrays of shapes {shapes} meets no weight of the reference: was it scaled,"
                    " quantised or joined with another?", shapes=shapes,
                )  # fmt: skip
            return NOTHING
        if (a.kinds or NOTHING) | (b.kinds or NOTHING) == {"context"}:
            return frozenset({"context"})  # an output projection of their own
        readings = [
            (what, one, other)
            for one, other in ((a, b), (b, a))
            for what, first, second in (("scores", "query", "key"), ("context", "scores", "value"))
            if made_of(one, first) and made_of(other, second)
        ]
        if len({what for what, *_ in readings}) != 1:
            return self.lose(
                (CELLS,), "a product of arrays of shapes {shapes} is not told to be of queries with keys: what was made"
                " of both, or of neither, is one of its sides", shapes=shapes,
            )  # fmt: skip
        what, one, _ = readings[0]
        self.products += 1
        if what == "scores":
            self.cells += size
        else:
            self.weigh(one.values.size, size)
        return frozenset({what})

    def multiply(self, operands: list[Operand], size: int) -> Kinds:
        """Number by number: the first half of a product that is written out, or all of one in which a single row meets
        a single weight (torch's einsum does that). What the result is made of."""
        made = NOTHING.union(*(x.kinds or NOTHING for x in operands))
        if len(operands) != 2:
            return made
        a, b = operands
        for one, other in ((a, b), (b, a)):
            if "scores" in (one.kinds or NOTHING) and "value" in (other.kinds or NOTHING):
                return self.multiply_weights(one, other, size)
        first, second = ((x.kinds or NOTHING) & PROJECTED for x in (a, b))
        if first and second and (first != second or len(first) > 1):
            self.lose((CELLS,), "queries and keys were multiplied number by number")
        if any(PROJECTED & self.rows.find(x.values, x.dtype).keys() for x in operands):
            self.lose((ROWS,), "weights were multiplied number by number")
        return made

    def multiply_weights(self, scores: Operand, value: Operand, size: int) -> Kinds:
        """One row of values for each head is a whole product; of several a sum is to come, and it will not be seen."""
        pairs = zip(reversed(scores.values.shape), reversed(value.values.shape), strict=False)
        shared = [one for one, other in pairs if one == other > 1]
        if len(shared) > 1 or not {*shared} <= {self.config.heads, self.config.kv_heads}:
            return self.lose((CELLS,), "weights of attention and values were multiplied number by number")
        self.weigh(scores.values.size, size)
        return frozenset({"context"})

    def weigh(self, scores: int, context: int) -> None:
        """So many scores met values, and gave so many numbers."""
        self.weighed, self.context = self.weighed + scores, self.context + context

    def rows_of(self, kind: str) -> Fraction:
        """Rows that went through the projections of a kind, in all layers."""
        c = self.config
        widths = {"query": c.heads * c.d_head, "key": c.kv_heads * c.d_head, "value": c.kv_heads * c.d_head,
                  "output": c.d_model}  # fmt: skip
        return Fraction(self.made[kind], widths[kind])

    def close(self, fed: int) -> None:
        """Is everything accounted for: were all scores that met values seen, was all that attention gave on, was every
        one of the tokens fed projected?"""
        c = self.config
        attended = self.rows_of("output") * c.heads * c.d_head
        if self.weighed > self.cells or attended > self.context:
            self.lose(
                (CELLS,), "attention gave {attended} numbers to its output projection, of which {context} were seen to"
                " be made, with {weighed} weights of {cells} scores",
                attended=plain_number(attended), context=self.context, weighed=self.weighed, cells=self.cells,
            )  # fmt: skip
        for kind in sorted(PROJECTED):
            if (rows := self.rows_of(kind)) < fed * c.layers:
                self.lose(
                    (ROWS,), "{kind}: {rows} projected rows were seen in {layers} layers, fewer than the {fed} tokens"
                    " of each", kind=kind, rows=plain_number(rows), layers=c.layers, fed=fed,
                )  # fmt: skip

    def counts(self) -> dict[str, int | float]:
        """Score cells of one head of one layer, and projected rows of one layer: those that are known."""
        c = self.config
        rows = sum((self.rows_of(kind) for kind in PROJECTED), Fraction())
        counted = {CELLS: Fraction(self.cells, c.heads * c.layers), ROWS: rows / c.layers}
        return {name: plain_number(count) for name, count in counted.items() if name not in self.unknown}


def made_of(x: Operand, kind: str) -> bool:
    """Was it made of that? An array that was filled by hand may be."""
    return x.kinds is None or kind in x.kinds


def plain_number(x: Fraction) -> int | float:
    return int(x) if x.denominator == 1 else float(x)
