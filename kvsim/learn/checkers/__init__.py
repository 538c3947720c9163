"""The checkers of the exercises, one a file, imported when an exercise is checked."""

CHECKERS = {
    "count_waste": "kvsim.learn.checkers.count_waste",
    "attention_step": "kvsim.learn.checkers.attention_step",
    "kv_cache": "kvsim.learn.checkers.kv_cache",
    "memory_bill": "kvsim.learn.checkers.memory_bill",
    "prefill_vs_decode": "kvsim.learn.checkers.prefill_vs_decode",
    "gqa": "kvsim.learn.checkers.gqa",
}
