"""Every family against transformers, on tiny random models created here (extra dev).

`python -m tests.loading.test_families` prints a table: for every model the largest difference of logits relative to
max|logit|, that of cached against uncached, and whether FLOPs and greedy ids are equal.
"""

import numpy as np
import pytest

import kvsim
from tests.loading.zoo import ZOO, make_theirs

pytestmark = pytest.mark.dev
# Relative to max|logit|. transformers computes norms, softmax, rotary angles and routers in float32 even in a float64
# model.
ALLOWED = 5e-6
BY_LENGTH = {"llama_dynamic", "llama_longrope", "phi3_longrope"}
# Falcon's eager attention adds ALiBi biases twice (in the mask and in the scores); sdpa adds them once, as trained.
SDPA = {"falcon_rw"}
IDS = [int(i) for i in np.random.default_rng(1).integers(3, 53, 12)]
SOURCE = [int(i) for i in np.random.default_rng(2).integers(3, 53, 9)]
FEATURES = np.random.default_rng(3).normal(size=(8, 18))


@pytest.mark.parametrize("name", ZOO)
def test_logits_cache_and_flops(name, tmp_path):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    theirs = make_theirs(name, tmp_path, "sdpa" if name in SDPA else "eager")
    ours = kvsim.load(tmp_path, dtype="float64")
    inputs, source = {"input_ids": torch.tensor([IDS])}, {}
    if ours.config.encoder is not None:
        inputs = {"input_ids": torch.tensor([SOURCE]), "decoder_input_ids": torch.tensor([IDS])}
        source = {"encoder_ids": SOURCE}
        if ours.config.audio is not None:
            inputs = {"input_features": torch.tensor(FEATURES[None]), "decoder_input_ids": torch.tensor([IDS])}
            source = {"encoder_features": FEATURES}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = theirs(**inputs, use_cache=False).logits[0].numpy()
    with ours.count() as ledger:
        got = ours(IDS, **source)
    scale = np.abs(expected).max()
    assert np.abs(got - expected).max() <= ALLOWED * scale
    if name not in SDPA:
        assert ledger.flops == counter.get_total_flops()
    cache = ours.new_cache("dynamic")
    parts = [ours(IDS[:5], cache, **source), ours(IDS[5:6], cache), ours(IDS[6:], cache)]
    difference = np.abs(np.concatenate(parts) - got).max()
    assert (difference > 1e-3 * scale) if name in BY_LENGTH else (difference <= 1e-12 * scale)


@pytest.mark.parametrize("name", sorted(set(ZOO) - SDPA - {"llama_dynamic", "llama_longrope", "phi3_longrope"}))
def test_cache_contents(name, tmp_path):
    """Keys and values of every layer equal those in transformers' cache after a prefill and three steps."""
    import torch

    theirs = make_theirs(name, tmp_path)
    ours = kvsim.load(tmp_path, dtype="float64")
    source, kwargs = {}, {}
    if ours.config.encoder is not None:
        given = {"input_ids": torch.tensor([SOURCE])}
        source = {"encoder_ids": SOURCE}
        if ours.config.audio is not None:
            given, source = {"input_features": torch.tensor(FEATURES[None])}, {"encoder_features": FEATURES}
        with torch.no_grad():
            kwargs = {"encoder_outputs": theirs.get_encoder()(**given)}
    past, cache = None, ours.new_cache("dynamic")
    for chunk in (IDS[:7], [IDS[7]], [IDS[8]], [IDS[9]]):
        key = "decoder_input_ids" if kwargs else "input_ids"
        with torch.no_grad():
            past = theirs(
                **{key: torch.tensor([chunk])}, past_key_values=past, use_cache=True, **kwargs
            ).past_key_values
        ours(chunk, cache, **source)
    layers = past.self_attention_cache.layers if kwargs else past.layers
    for mine, other in zip(cache.layers, layers, strict=True):
        keys, values = other.keys[0].numpy(), other.values[0].numpy()
        if keys.shape[0] > mine.keys.shape[0]:  # transformers stores these repeated for all query heads
            keys, values = (x[:: keys.shape[0] // mine.keys.shape[0]] for x in (keys, values))
        for got, expected in ((mine.keys, keys), (mine.values, values)):
            assert np.abs(got - expected).max() <= ALLOWED * max(1.0, np.abs(expected).max())


def their_greedy(theirs, ids, count, **inputs):
    """`ids` and `count` more by argmax of transformers' logits, without a cache."""
    import torch

    ids = list(ids)
    for _ in range(count):
        key = "decoder_input_ids" if inputs else "input_ids"
        with torch.no_grad():
            ids.append(int(theirs(**inputs, **{key: torch.tensor([ids])}, use_cache=False).logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize("name", sorted(set(ZOO) - BY_LENGTH))
def test_greedy_ids_and_float32(name, tmp_path):
    import torch

    theirs = make_theirs(name, tmp_path, "sdpa" if name in SDPA else "eager")
    ours = kvsim.load(tmp_path, dtype="float64")
    prompt, start, inputs, source = IDS[:5], IDS[:5], {}, {}
    if ours.config.encoder is not None:
        start, prompt = [ours.config.start_id], SOURCE
        inputs, source = {"input_ids": torch.tensor([SOURCE])}, {"encoder_ids": SOURCE}
        if ours.config.audio is not None:
            prompt, source = FEATURES, {"encoder_features": FEATURES}
            inputs = {"input_features": torch.tensor(FEATURES[None])}
    expected = their_greedy(theirs, start, 6, **inputs)
    for cache in ("dynamic", "none"):
        assert kvsim.generate(ours, prompt, 6, cache=cache).ids == expected
    single = kvsim.load(tmp_path)
    theirs = theirs.float()
    inputs = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    key = "decoder_input_ids" if inputs else "input_ids"
    with torch.no_grad():
        logits = theirs(**inputs, **{key: torch.tensor([IDS])}, use_cache=False).logits[0].numpy()
    assert single.dtype == "float32"
    # Rounding in float32 differs: up to 1e-4 of max|logit|, as long as no router chooses another expert because of it.
    assert np.abs(single(IDS, **source) - logits).max() <= 1e-4 * np.abs(logits).max()


# The same models with a changed config.json: transformers and kvsim must still agree. `...` removes a field.
SPELLINGS = {
    "llama-scaling-first": ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 300.0}),
    "llama-old": ("llama_llama3", {"rope_parameters": ..., "rope_theta": 500.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}}),
    "whisper-scale": ("whisper", {"scale_embedding": True}),
    "v3-defaults": ("deepseek_v3", {"routed_scaling_factor": ..., "norm_topk_prob": ...}),
    "v2-greedy-normed": ("deepseek_v2", {"norm_topk_prob": True}),
    "gemma2-caps": ("gemma2", {"attn_logit_softcapping": ..., "final_logit_softcapping": ...}),
    "gemma2-no-caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma2-pattern": ("gemma2", {"sliding_window_pattern": 3, "layer_types": ...}),
    "gemma3-caps": ("gemma3", {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}),
    "gemma-two-activations": ("gemma", {"hidden_act": "gelu", "hidden_activation": "gelu"}),
    "gemma2-hidden-act": ("gemma2", {"hidden_act": "relu", "hidden_activation": ...}),
    "phi3-yarn-was-longrope": ("phi3_longrope", {"rope_parameters": ..., "rope_theta": 1e4, "rope_scaling": {
        "type": "yarn", "short_factor": [1.0, 1.1], "long_factor": [1.5, 4.0]}}),
    "phi-partial-at-top": ("phi", {"rope_parameters": ..., "partial_rotary_factor": 0.25, "rope_theta": 700.0}),
    "qwen2-no-types": ("qwen2_windows", {"layer_types": ...}),
    # A null flag means false, not the class's default.
    "v3-nulls": ("deepseek_v3", {"rope_interleave": None, "norm_topk_prob": None}),
    "falcon-nulls": ("falcon_rw", {"alibi": None, "multi_query": None, "parallel_attn": None}),
    "cohere-null": ("cohere", {"use_qk_norm": None}),
    # No rotary parameters.
    "mixtral-no-rope": ("mixtral", {"rope_parameters": ...}),
    "phi-no-rope": ("phi", {"rope_parameters": ...}),
    "gpt-neox-no-rope": ("gpt_neox", {"rope_parameters": ...}),
    "gpt-neox-rope-theta-is-not-read": ("gpt_neox", {"rope_parameters": ..., "rope_theta": 3.0}),
    "gpt-oss-no-rope": ("gpt_oss", {"rope_parameters": ...}),
    "gemma3-no-rope": ("gemma3", {"rope_parameters": ...}),
    "gemma3-one-rope": ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}},
                                   "rope_theta": 70.0, "rope_local_base_freq": 90.0}),
    "phi3-original": ("phi3_longrope", {"original_max_position_embeddings": ..., "max_position_embeddings": 8192}),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_spellings(name, tmp_path):
    import torch
    import transformers

    from tests.loading.folders import change_config

    base, changes = SPELLINGS[name]
    kind = type(make_theirs(base, tmp_path))
    change_config(tmp_path, **changes)
    theirs = kind.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager").eval()
    assert isinstance(theirs, transformers.PreTrainedModel)
    theirs.set_experts_implementation("eager")
    ours = kvsim.load(tmp_path, dtype="float64")
    inputs, source = {"input_ids": torch.tensor([IDS])}, {}
    if ours.config.audio is not None:
        inputs = {"input_features": torch.tensor(FEATURES[None]), "decoder_input_ids": torch.tensor([IDS])}
        source = {"encoder_features": FEATURES}
    with torch.no_grad():
        expected = theirs(**inputs, use_cache=False).logits[0].numpy()
    assert np.abs(ours(IDS, **source) - expected).max() <= ALLOWED * np.abs(expected).max()


def table():
    import tempfile

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    print(f"{'model':<24}{'logits f64':>11}{'f32':>9}{'split':>9}{'FLOPs':>8}{'greedy':>8}")
    for name in ZOO:
        with tempfile.TemporaryDirectory() as folder:
            theirs = make_theirs(name, folder, "sdpa" if name in SDPA else "eager")
            ours = kvsim.load(folder, dtype="float64")
            single = kvsim.load(folder)
        start, prompt, inputs, source = IDS[:5], IDS[:5], {}, {}
        if ours.config.encoder is not None:
            start, prompt = [ours.config.start_id], SOURCE
            inputs, source = {"input_ids": torch.tensor([SOURCE])}, {"encoder_ids": SOURCE}
            if ours.config.audio is not None:
                prompt, source = FEATURES, {"encoder_features": FEATURES}
                inputs = {"input_features": torch.tensor(FEATURES[None])}
        given = {"decoder_input_ids" if inputs else "input_ids": torch.tensor([IDS])}
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            expected = theirs(**inputs, **given, use_cache=False).logits[0].numpy()
        with ours.count() as ledger:
            got = ours(IDS, **source)
        cache = ours.new_cache("dynamic")
        parts = np.concatenate([ours(IDS[:5], cache, **source), ours(IDS[5:], cache)])
        scale = np.abs(expected).max()
        pairs = ((got, expected), (single(IDS, **source), got), (parts, got))
        worst, in_single, in_parts = (np.abs(x - y).max() / scale for x, y in pairs)
        flops = "sdpa" if name in SDPA else "exact" if ledger.flops == counter.get_total_flops() else "NO"
        split = "design" if name in BY_LENGTH else f"{in_parts:.0e}"
        same = their_greedy(theirs, start, 6, **inputs) == kvsim.generate(ours, prompt, 6, cache="none").ids
        numbers = f"{worst:>11.0e}{in_single:>9.0e}{split:>9}{flops:>8}"
        print(f"{name:<24}{numbers}{'same' if same else 'NO':>8}")


if __name__ == "__main__":
    table()
