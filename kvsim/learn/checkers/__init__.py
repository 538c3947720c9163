"""The checkers of the exercises, one a file, imported when an exercise is checked."""

CHECKERS = {
    "count_waste": "kvsim.learn.checkers.count_waste",
    "attention_step": "kvsim.learn.checkers.attention_step",
    "why_not_q": "kvsim.learn.checkers.why_not_q",
    "kv_cache": "kvsim.learn.checkers.kv_cache",
    "fix_the_book_loop": "kvsim.learn.checkers.fix_the_book_loop",
    "rope_offset": "kvsim.learn.checkers.rope_offset",
    "chunked_prefill": "kvsim.learn.checkers.chunked_prefill",
    "memory_bill": "kvsim.learn.checkers.memory_bill",
    "prefill_vs_decode": "kvsim.learn.checkers.prefill_vs_decode",
    "gqa": "kvsim.learn.checkers.gqa",
    "window_and_sinks": "kvsim.learn.checkers.window_and_sinks",
    "int8_cache": "kvsim.learn.checkers.int8_cache",
    "paged_cache": "kvsim.learn.checkers.paged_cache",
    "hf_use_cache": "kvsim.learn.checkers.hf_use_cache",
}
