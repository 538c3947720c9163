"""Lesson 3: attention grows with the square of the length, but most operations are in the linear layers.

Run: python examples/where_operations_go.py
"""

import kvsim

model = kvsim.load("demo")
prompt = model.tokenizer.encode("What is KV caching?")

for cache in ("none", "dynamic"):
    run = kvsim.generate(model, prompt, max_new_tokens=20, cache=cache, feed="prefill")
    print(f"cache {cache}: {run.ledger.macs:,} multiply-accumulates, {run.ledger.flops:,} FLOPs")
    for kind, totals in run.ledger.by("kind").items():
        print(f"  {kind:<8} {totals.macs:>12,}  {totals.macs / run.ledger.macs:6.1%}")
    attention = sum(run.ledger.by("kind")[kind].macs for kind in ("scores", "context"))
    print(f"  attention's two products are {attention / run.ledger.macs:.1%} of the whole")

    # The up projection by hand: rows x inputs x outputs, times the number of layers.
    rows = sum(event.m for event in run.ledger if event.site == "layers.0.up")
    by_hand = rows * model.config.d_model * model.config.d_ff * model.config.n_layers
    assert run.ledger.by("kind")["up"].macs == by_hand
