"""Lesson 5: 28 score cells are no proof of a cache. A fake one that projects every key and value again at every step
has the same output and the same 28 score cells as a real one; only the number of projected rows differs.

One attention layer of the demo model, three ways.
Run: python examples/fake_cache.py
"""

import numpy as np

import kvsim
from kvsim.spans import Span
from kvsim.transformer.attention import Scoring, attend, merge_heads, project, to_groups
from kvsim.transformer.positions import Positions

model = kvsim.load("demo", dtype="float64")
ops, config, w = model.ops, model.config, model.weights.layers[0].attention
ids = model.tokenizer.encode("中华人民共和国")
x = model.weights.tokens[ids]  # [T, D], the input of the layer


def attention(rows, kv_rows, cache, pos):
    """The last row's context [D]: queries of `rows` against `cache`, updated with keys and values of `kv_rows`."""
    positions, rope = Positions(ops, config), config.layers[0].rope
    q, k, v = (project(ops, config, w, kind, x) for kind, x in (("query", rows), ("key", kv_rows), ("value", kv_rows)))
    (view,) = cache.update(k.transpose(1, 0, 2), v.transpose(1, 0, 2), pos, positions.encoder_of_keys(rope))
    queries = positions.rotate(rope, to_groups(ops, q, config.n_kv_heads), view.query_pos)
    mask = positions.mask(view.query_pos, view.key_pos, None)
    return merge_heads(ops, attend(ops, queries, view, Scoring(config.d_head**-0.5, mask)))[-1]


class Faked:
    """Stores nothing: it receives every row again, and returns them as if they had been cached."""

    def __init__(self):
        self.inner = model.new_cache("none").layers[0]

    def update(self, keys, values, pos, encode):
        (view,) = self.inner.update(keys, values, Span(0, pos.stop), encode)
        return (view._replace(query_pos=pos),)


real = model.new_cache("dynamic").layers[0]
steps = {
    "no cache": lambda n: attention(x[:n], x[:n], model.new_cache("none").layers[0], Span(0, n)),
    "faked": lambda n: attention(x[n - 1 : n], x[:n], Faked(), Span(n - 1, n)),
    "real": lambda n: attention(x[n - 1 : n], x[n - 1 : n], real, Span(n - 1, n)),
}
outputs, counts = {}, {}
for name, step in steps.items():
    with model.count() as ledger, ops.at("layers", 0):
        outputs[name] = np.stack([step(n) for n in range(1, 8)])
    counts[name] = (ledger.score_cells(), ledger.projected_rows())
    print(f"{name:<9} score cells {counts[name][0]:3}   projected rows {counts[name][1]:2}")

assert all(np.allclose(out, outputs["no cache"], rtol=1e-12, atol=1e-12) for out in outputs.values())
assert counts == {"no cache": (140, 84), "faked": (28, 63), "real": (28, 21)}
