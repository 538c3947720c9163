"""14 hf_use_cache. The task: kvsim learn show 14. Save, and run kvsim learn run 14."""

import torch  # noqa: F401


def generate(model, ids, n, use_cache):
    """The n tokens that follow `ids`, a list of ints; each one is the most likely next token.

    model: a Llama of transformers. out = model(input_ids, past_key_values=cache, use_cache=use_cache), where input_ids
    is a tensor [1, T] and cache is None or what an earlier call returned as out.past_key_values, gives
    out.logits [1, T, V]: row t says which token comes after token t of input_ids.
    """
    raise NotImplementedError("write generate")
