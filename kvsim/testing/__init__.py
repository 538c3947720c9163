"""The oracle for other people's tests: checks that name the mistake. In pytest, the fixture `kv_oracle` has the same.

`attention` is the transformer's own, with every option that the ONNX operator of that name has.
"""

from kvsim.testing.attention import attention as attention
from kvsim.testing.checks.attention import assert_attention as assert_attention
from kvsim.testing.checks.cases import Case as Case
from kvsim.testing.checks.cases import cases as cases
from kvsim.testing.checks.costs import assert_cost as assert_cost
from kvsim.testing.checks.decoders import assert_close_to as assert_close_to
from kvsim.testing.checks.decoders import assert_policy as assert_policy
from kvsim.testing.checks.decoders import assert_split_invariant as assert_split_invariant
from kvsim.testing.checks.quantisers import assert_quantiser as assert_quantiser
from kvsim.testing.checks.rows import assert_cache_rows as assert_cache_rows
from kvsim.testing.subject.weights import ModelWeights as ModelWeights
from kvsim.testing.subject.weights import make_weights as weights
from kvsim.testing.verdict.failing import OracleError as OracleError

__all__ = [
    "Case",
    "ModelWeights",
    "OracleError",
    "assert_attention",
    "assert_cache_rows",
    "assert_close_to",
    "assert_cost",
    "assert_policy",
    "assert_quantiser",
    "assert_split_invariant",
    "attention",
    "cases",
    "weights",
]
