"""The fixture `kv_oracle`: the functions of `kvsim.testing` with the options of this pytest run."""

import math
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvsim.files.writing import write_beside
from kvsim.schemas import dump, stamp
from kvsim.testing.checks.attention import assert_attention
from kvsim.testing.checks.costs import assert_cost
from kvsim.testing.checks.decoders import assert_close_to, assert_policy, assert_split_invariant
from kvsim.testing.checks.edits import assert_edits
from kvsim.testing.checks.quantisers import assert_quantiser
from kvsim.testing.checks.rows import assert_cache_rows
from kvsim.testing.feeds.plain_attention import attention
from kvsim.testing.subject.weights import ModelWeights, make_weights
from kvsim.testing.verdict.error import OracleError


class Oracle:
    """The checks of `kvsim.testing` with this `seed` and `cases`, unless a call gives others.

    Each failure is also written to the folder `report`, under the test's name `name`. `reference` is by default the
    weights that `weights` made last.
    """

    def __init__(self, seed: int = 0, cases: int = 0, report: Path | None = None, name: str = "check") -> None:
        self.seed, self.cases, self.report, self.name = seed, cases, report, name
        self.made: ModelWeights | None = None

    attention = staticmethod(attention)

    def weights(self, **sizes: Any) -> ModelWeights:
        """Random weights under Hugging Face's Llama names; `.config` has their sizes. Defaults: layers=2, heads=4,
        kv_heads=2, d_head=8, window=None, rope="half", dtype="float64"."""
        self.made = make_weights(**({"seed": self.seed} | sizes))
        return self.made

    def assert_attention(self, function: Any, layout: str = "b t h d", **more: Any) -> None:
        __tracebackhide__ = True
        self._run(assert_attention, function, layout, **({"seed": self.seed, "cases": self.cases} | more))

    def assert_split_invariant(self, make: Any, step: Any, reference: Any = None, **more: Any) -> None:
        __tracebackhide__ = True
        self._run(assert_split_invariant, make, step, **(self._defaults(reference) | more))

    def assert_policy(self, make: Any, step: Any, reference: Any = None, **more: Any) -> None:
        __tracebackhide__ = True
        self._run(assert_policy, make, step, **(self._defaults(reference) | more))

    def assert_edits(self, make: Any, step: Any, reference: Any = None, **more: Any) -> None:
        __tracebackhide__ = True
        defaults = {"seed": self.seed, "reference": self._reference(reference)}
        self._run(assert_edits, make, step, **(defaults | more))

    def assert_close_to(self, make: Any, step: Any, reference: Any = None, **more: Any) -> None:
        __tracebackhide__ = True
        self._run(assert_close_to, make, step, **(self._defaults(reference) | more))

    def assert_cost(self, make: Any, step: Any, feed: list[int], reference: Any = None, **more: Any) -> None:
        __tracebackhide__ = True
        self._run(assert_cost, make, step, feed, **({"reference": self._reference(reference)} | more))

    def assert_cache_rows(self, make: Any, step: Any, rows: Any, reference: Any = None, **more: Any) -> None:
        __tracebackhide__ = True
        defaults = {"seed": self.seed, "reference": self._reference(reference)}
        self._run(assert_cache_rows, make, step, rows, **(defaults | more))

    def assert_quantiser(self, quantise: Any, dequantise: Any, **more: Any) -> None:
        __tracebackhide__ = True
        self._run(assert_quantiser, quantise, dequantise, **({"seed": self.seed} | more))

    def _defaults(self, reference: Any) -> dict[str, Any]:
        return {"seed": self.seed, "cases": self.cases, "reference": self._reference(reference)}

    def _reference(self, given: Any) -> Any:
        """The given reference, or the weights made last."""
        return self.made if given is None else given

    def _run(self, check: Any, *args: Any, **keywords: Any) -> None:
        __tracebackhide__ = True
        try:
            check(*args, **keywords)
        except OracleError as error:
            self._write(error)
            raise

    def _write(self, error: OracleError) -> None:
        """Write the failure to the report folder. If that fails, a note on the error says so, and the error stays."""
        if self.report is None:
            return
        facts = {name: _finite(value) for name, value in error.facts.items()}
        record = {**stamp("oracle"), "test": self.name, "seed": self.seed, "text": str(error), **facts}
        data = f"{dump(record)}\n".encode()
        try:
            self.report.mkdir(parents=True, exist_ok=True)
            write_beside(self.report / file_name(self.name), data)
        except (OSError, ValueError) as failure:  # ValueError: FileError, or NUL in the name of the folder
            error.add_note(f"--kv-report: {failure}")


def _finite(value: Any) -> Any:
    """`value`; None for infinity and NaN, which JSON cannot express."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_name(test: str) -> str:
    """The name of a test's report: the test's own name without characters that file names cannot have, and short.

    A digest of the whole name keeps names apart that would otherwise become equal.
    """
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in test.replace("::", "__"))
    same = len(plain.encode()) <= 150 and "[" not in test
    return f"{plain}.json" if same else f"{plain[:40]}-{sha256(test.encode()).hexdigest()[:12]}.json"
