"""What a step costs is what torch counts of transformers' own model on meta tensors: every decoder of the catalogue."""

import warnings
from copy import deepcopy

import pytest

import kvsim
from kvsim.costs.public.models import find_config, read_catalogue

TOKENS = 64
DECODERS = [name for name in read_catalogue() if find_config(name)[1].encoder is None]
ALIBI = ("bloom", "bloom-560m", "falcon-rw-1b")  # make their biases of a mask [1, T]


def test_there_are_enough():
    assert len(DECODERS) >= 70


@pytest.mark.dev
@pytest.mark.parametrize("name", DECODERS)
def test_torch_counts_the_same(name):
    """Full squares and the head on all positions, as `kvsim.count` does; eager, with positions and mask given."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCausalLM

    mixed = any(kind.experts is not None for kind in find_config(name)[1].layers)
    options = {"experts_implementation": "batched_mm"} if mixed else {}
    config = AutoConfig.for_model(**deepcopy(read_catalogue()[name]["config"]))  # which it changes
    inputs = {} if name in ALIBI else {"position_ids": torch.arange(TOKENS, device="meta")[None]}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AutoModelForCausalLM.from_config(config, attn_implementation="eager", **options)
        ids = torch.zeros((1, TOKENS), dtype=torch.long)
        mask = torch.ones((1, TOKENS)) if name in ALIBI else torch.zeros((1, 1, TOKENS, TOKENS))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            theirs(input_ids=ids, attention_mask=mask, use_cache=False, **inputs)
    assert kvsim.count(name, prompt=TOKENS, new=1).flops == counter.get_total_flops()
