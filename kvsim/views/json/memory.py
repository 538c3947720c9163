"""The record of `kvsim memory --json` (`kvsim schema memory`): exact integers."""

from typing import Any

from kvsim.costs.bytes.memory import Held, Memory
from kvsim.schemas import stamp


def to_dict(memory: Memory) -> dict[str, Any]:
    """Everything that was counted, as `kvsim.memory/1`."""
    p = memory.parameters
    return {
        **stamp("memory"),
        "model": memory.model,
        "max_context": memory.config.max_context,
        "dtype": memory.dtype,
        "cache_dtype": memory.cache_dtype,
        "batch": memory.batch,
        "block": memory.block,
        "source": memory.source,
        "parameters": {
            "total": p.total,
            "active": p.active,
            "without_embeddings": p.without_embeddings,
            "active_without_embeddings": p.active_without_embeddings,
            "groups": p.groups,
        },
        "weight_bytes": memory.weight_bytes,
        "token_bytes": {"first": memory.row_bytes, "beyond_windows": memory.far_bytes},
        "rows": [
            {
                "layers": rows.layers, "heads": rows.shape.n_heads, "d_key": rows.shape.d_key,
                "d_value": rows.shape.d_value, "window": rows.window, "cross": rows.cross,
                "bytes": rows.numbers * memory.kept.item,
            }
            for rows in memory.rows
        ],
        "contexts": [_held_dict(held, memory) for held in memory.contexts],
    }  # fmt: skip


def _held_dict(held: Held, memory: Memory) -> dict[str, Any]:
    quantised = None if held.quantised is None else held.quantised._asdict()
    return {
        "context": held.context, "beyond_model": held.context > memory.config.max_context, "logical": held.logical,
        "paged": held.paged, "reserved": held.reserved, "everywhere": held.everywhere, "cross": held.cross,
        "quantised": quantised,
    }  # fmt: skip
