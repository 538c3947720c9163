"""Lesson 4: the memory of a cache, by hand and measured.

Run: python examples/cache_memory.py
"""

import kvsim

model = kvsim.load("demo")
config = model.config
text = model.tokenizer.encode("中华人民共和国成立于1949年")

item = 4  # bytes of a float32
per_token = 2 * config.n_layers * config.n_kv_heads * config.d_head * item  # 2: keys and values
print(f"by hand: 2 x {config.n_layers} layers x {config.n_kv_heads} KV heads x {config.d_head} x {item} B", end="")
print(f" = {per_token} B a token")

for spec in ("dynamic", "static:64"):
    cache = model.new_cache(spec)
    model(text, cache)
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    print(f"{spec}: {cache.seen} tokens, {cache.logical_bytes} B held, {cache.allocated_bytes} B allocated")
    assert measured == cache.logical_bytes == per_token * len(text)

queries = per_token * config.n_heads // config.n_kv_heads
print(f"with a key/value head for each of the {config.n_heads} query heads it would be {queries} B a token")
