"""Which columns of each table matter least: on a narrow terminal those are left out first, in this order.

Before any is left out, headings and texts are wrapped at words. A column that is not named here is never left out: if
these do not fit side by side, each row is printed as lines of "heading: value".
"""

LEAST_FIRST: dict[str, tuple[str, ...]] = {
    "trace": ("other", "sequence", "saved", "next"),
    "trace-shapes": (),
    "trace-sites": ("saved",),
    "trace-memory": ("allocated",),
    "compare": (
        "metadata", "relative", "largest_kl", "macs", "new_choice", "allocated", "logits", "first_change",
        "same_choice",
    ),
    "chat": ("rows", "bytes", "cells", "reply", "macs", "text"),
    "caches": ("paper", "logits"),
    "memory-weights": ("gb", "gib"),
    "memory-contexts": ("gb", "gib"),
    "cost-flops": ("steps", "square", "causal"),
    "cost-bytes": ("written", "read", "weights"),
    "cost-intensity": ("square", "causal"),
    "cost-sites": ("decode", "prefill", "share"),
    "cost-roofline": ("total", "prefill_bound", "decode_bound"),
    "plan": ("budget", "spare"),
    "plan-remedies": (),
    "sweep": (
        "cache_bytes", "weight_bytes", "usable_spare", "gb_spare", "gib_spare", "utilization", "cache_dtype",
        "gib_requests", "devices", "dtype", "gb_requests",
    ),
    "bench": ("flops", "read", "faster"),
    "claims": (),
    "run": ("products", "next"),
    "products": ("useful", "products"),
}  # fmt: skip
