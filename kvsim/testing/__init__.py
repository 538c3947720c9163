"""The oracle for other people's tests: checks that name the mistake. In pytest, the fixture `kv_oracle` has the same.

`attention` is the transformer's own, with every option that the ONNX operator of that name has.
"""

from kvsim.testing.attention import attention as attention
from kvsim.testing.attention_check import assert_attention as assert_attention
from kvsim.testing.catalogue import Case as Case
from kvsim.testing.catalogue import cases as cases
from kvsim.testing.costs import assert_cost as assert_cost
from kvsim.testing.failing import OracleError as OracleError
from kvsim.testing.model_weights import ModelWeights as ModelWeights
from kvsim.testing.model_weights import make_weights as weights
from kvsim.testing.quantisers import assert_quantiser as assert_quantiser
from kvsim.testing.raw_rows import assert_cache_rows as assert_cache_rows
from kvsim.testing.splitting import assert_close_to as assert_close_to
from kvsim.testing.splitting import assert_policy as assert_policy
from kvsim.testing.splitting import assert_split_invariant as assert_split_invariant

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
