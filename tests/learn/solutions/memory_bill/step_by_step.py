import math


def bytes_per_token(layers, heads, kv_heads, d_head, bits):
    total = 0
    for _layer in range(layers):
        for _array in ("keys", "values"):
            total += kv_heads * d_head * bits
    return total / 8  # a whole number, as a float


def longest_context(memory_gb, parameters, bits, per_token):
    weights = parameters * (bits / 8)
    memory = memory_gb * 1e9
    if weights > memory:
        return 0
    return math.floor((memory - weights) / per_token)


def most_requests(memory_gb, parameters, bits, per_token, context):
    return longest_context(memory_gb, parameters, bits, per_token) // context
