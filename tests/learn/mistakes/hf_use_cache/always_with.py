# expect: cache_not_off
import torch


@torch.no_grad()
def generate(model, ids, n, use_cache):
    fed, cache, new = torch.tensor([ids]), None, []
    for _ in range(n):
        out = model(fed, past_key_values=cache, use_cache=True)
        new.append(int(out.logits[0, -1].argmax()))
        if True:
            cache = out.past_key_values
            fed = torch.tensor([[new[-1]]])
        else:
            fed = torch.tensor([ids + new])
    return new
