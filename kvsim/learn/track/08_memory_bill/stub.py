"""08 memory_bill. The task: kvsim learn show 08. Save, and run kvsim learn run 08."""


def bytes_per_token(layers, heads, kv_heads, d_head, bits):
    """Bytes that one more token adds to the KV cache, over all layers. Five whole numbers; returns one.

    heads: query heads; kv_heads: heads of K and of V; d_head: numbers in a row of one head; bits: of one number.
    """
    raise NotImplementedError("write bytes_per_token")


def longest_context(memory_gb, parameters, bits, per_token):
    """Tokens of the longest single request that fits beside the weights; 0 if the weights do not fit.

    memory_gb: of the device, GB of 10^9 bytes; parameters: numbers in the weights; bits: of one of these;
    per_token: bytes of the cache for each token.
    """
    raise NotImplementedError("write longest_context")


def most_requests(memory_gb, parameters, bits, per_token, context):
    """Requests of `context` tokens each that fit at once beside the weights; 0 if none does."""
    raise NotImplementedError("write most_requests")
