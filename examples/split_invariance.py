"""Lesson 2: with a correct cache, every split of the text into chunks gives the same logits.

This is the complete test of a cache: at every position, not only the last token's, and for every split, not only one.
Run: python examples/split_invariance.py
"""

import itertools

import numpy as np

import kvsim

model = kvsim.load("demo", dtype="float64")
ids = model.tokenizer.encode("KV缓存记下旧")
whole = model(ids)  # [T, V], every position, no cache

worst, ways = 0.0, 0
for gaps in itertools.product([False, True], repeat=len(ids) - 1):  # every composition of len(ids)
    stops = [i + 1 for i, cut in enumerate(gaps) if cut] + [len(ids)]
    cache = model.new_cache("dynamic")
    logits = np.concatenate([model(ids[cache.seen : stop], cache) for stop in stops])
    worst = max(worst, np.abs(logits - whole).max() / np.abs(whole).max())
    ways += 1

print(f"{ways} ways to cut {len(ids)} tokens: logits differ by at most {worst:.1e} of the largest")
assert ways == 2 ** (len(ids) - 1)
assert worst < 1e-12
