import torch
from transformers import DynamicCache


def generate(model, ids, n, use_cache):
    """One cache, made here, which every call extends; positions are given."""
    text = torch.tensor(ids)[None]
    cache = DynamicCache() if use_cache else None
    while text.shape[1] < len(ids) + n:
        seen = cache.get_seq_length() if use_cache else 0
        positions = torch.arange(seen, text.shape[1])[None]
        with torch.inference_mode():
            logits = model(
                input_ids=text[:, seen:], position_ids=positions, past_key_values=cache, use_cache=use_cache
            ).logits
        text = torch.cat([text, logits[:, -1:].argmax(-1)], dim=1)
    return text[0, len(ids) :].tolist()
