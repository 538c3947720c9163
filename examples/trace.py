"""Lesson 1: the same generation with and without a cache, step by step.

Run: python examples/trace.py
"""

import kvsim

trace = kvsim.trace("中华人民", max_new_tokens=4, feed="token")
for step in trace.steps:
    no_cache, cached = step.no_cache.counts, step.cached.counts
    fed = "".join(piece.text for piece in step.fed)
    print(f"step {step.number}: fed {fed}, output {step.next.text}, ", end="")
    print(f"score cells {no_cache.score_cells:2} without and {cached.score_cells} with a cache")

no_cache, cached = trace.totals
print(f"in all {no_cache.score_cells} against {cached.score_cells} score cells, ", end="")
print(f"{no_cache.projected_rows} against {cached.projected_rows} projected rows")

# The sums of n² and of n over 7 steps; three projections for each of 28 and of 7 rows.
assert (no_cache.score_cells, cached.score_cells) == (sum(n * n for n in range(1, 8)), sum(range(1, 8)))
assert (no_cache.projected_rows, cached.projected_rows) == (3 * 28, 3 * 7)
assert trace.agrees, "both runs must compute the same logits"
