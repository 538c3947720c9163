# expect: all_ids_fed_again
import torch


@torch.no_grad()
def generate(model, ids, n, use_cache):
    fed, cache, new = torch.tensor([ids]), None, []
    for _ in range(n):
        out = model(fed, past_key_values=cache, use_cache=use_cache)
        new.append(int(out.logits[0, -1].argmax()))
        if use_cache:
            cache = out.past_key_values
            fed = torch.tensor([new])
        else:
            fed = torch.tensor([ids + new])
    return new
