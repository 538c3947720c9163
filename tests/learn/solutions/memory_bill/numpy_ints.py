import numpy as np

GB = 1_000_000_000


def bytes_per_token(layers, heads, kv_heads, d_head, bits):
    shape = [2, layers, kv_heads, d_head]
    return np.prod(np.array(shape, np.int64)) * (bits // 8)


def longest_context(memory_gb, parameters, bits, per_token):
    left = np.int64(memory_gb) * GB - np.int64(parameters) * (bits // 8)
    return np.maximum(left, 0) // per_token


def most_requests(memory_gb, parameters, bits, per_token, context):
    count, left = 0, memory_gb * GB - parameters * bits // 8
    while left >= per_token * context:
        left -= per_token * context
        count += 1
    return count
