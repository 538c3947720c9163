import torch


def generate(model, ids, n, use_cache):
    """The prompt by itself, then a loop for each way."""
    out = model(torch.tensor([ids]), use_cache=use_cache)
    new = [out.logits[0, -1].argmax().item()]
    while len(new) < n:
        if use_cache:
            out = model(torch.tensor([new[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        else:
            out = model(torch.tensor([[*ids, *new]]), use_cache=False)
        new.append(out.logits[0, -1].argmax().item())
    return torch.tensor(new)
