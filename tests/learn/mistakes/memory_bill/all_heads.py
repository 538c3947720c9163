# expect: query_heads_counted
def bytes_per_token(layers, heads, kv_heads, d_head, bits):
    return 2 * layers * heads * d_head * bits // 8


def room(memory_gb, parameters, bits):
    """Bytes beside the weights."""
    return max(0, memory_gb * 10**9 - parameters * bits // 8)


def longest_context(memory_gb, parameters, bits, per_token):
    return room(memory_gb, parameters, bits) // per_token


def most_requests(memory_gb, parameters, bits, per_token, context):
    return room(memory_gb, parameters, bits) // (per_token * context)
