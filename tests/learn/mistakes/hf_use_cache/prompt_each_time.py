# expect: new_tokens_not_fed
import torch


@torch.no_grad()
def generate(model, ids, n, use_cache):
    fed, cache, new = torch.tensor([ids]), None, []
    for _ in range(n):
        out = model(fed, past_key_values=cache, use_cache=use_cache)
        new.append(int(out.logits[0, -1].argmax()))
        if use_cache:
            fed = torch.tensor([ids])
        else:
            fed = torch.tensor([ids])
    return new
