"""torch's attention under the oracle: correct with an explicit mask, wrong with is_causal after cached tokens."""

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

from kvsim import testing


def masked(q, k, v):
    """q, k and v [B, H, T, D]; the mask's diagonal is shifted by the number of cached rows."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    return attend(q, k, v, attn_mask=mask, enable_gqa=True)


def top_left(q, k, v):
    return attend(q, k, v, is_causal=True, enable_gqa=True)


settings = {"layout": "b h t d", "heads": 4, "kv_heads": 2, "array": torch.from_numpy, "dtype": "float32"}
testing.assert_attention(masked, **settings)
print("with an explicit mask: correct")
try:
    testing.assert_attention(top_left, **settings)
except testing.OracleError as error:
    print(error)
    named = error.facts["diagnosis"]
assert named == ["mask_top_left"]
