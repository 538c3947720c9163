# expect: not_whole


def bytes_per_token(layers, heads, kv_heads, d_head, bits):
    return 2 * layers * kv_heads * d_head * bits // 8


def longest_context(memory_gb, parameters, bits, per_token):
    return (memory_gb * 10**9 - parameters * bits // 8) / per_token


def most_requests(memory_gb, parameters, bits, per_token, context):
    return longest_context(memory_gb, parameters, bits, per_token) // context
