"""Tiny models of every family, created by transformers: all sizes different, all parameters random.

`python -m tests.loading.zoo` writes the fields of their config.json files that kvsim reads into
kvsim/loading/small_models.json, so that tests and `kvsim doctor` do not need transformers.
"""

import json
from typing import Any

from kvsim.config import Config
from kvsim.errors import KvsimError
from kvsim.loading.config_file import make_config
from kvsim.loading.facts import Facts
from kvsim.loading.small_models import FILE

SMALL = {"vocab_size": 53, "max_position_embeddings": 64, "num_hidden_layers": 3}
LLAMA = SMALL | {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 6, "num_key_value_heads": 2}
HEADS = LLAMA | {"head_dim": 8}
GPT = {"vocab_size": 53, "n_positions": 64, "n_layer": 3, "n_embd": 24, "n_head": 3}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 12}
DEEPSEEK = SMALL | {
    "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "num_key_value_heads": 3, "kv_lora_rank": 10,
    "q_lora_rank": 14, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5, "moe_intermediate_size": 12,
    "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 4,
    "topk_group": 2, "routed_scaling_factor": 1.7,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
SEQ = {
    "vocab_size": 53, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 3,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 31, "decoder_ffn_dim": 37, "decoder_start_token_id": 2,
    "pad_token_id": 1, "eos_token_id": None, "bos_token_id": 0, "forced_eos_token_id": None,
}  # fmt: skip
LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 8,
    "short_factor": [1.0, 1.1], "long_factor": [1.5, 4.0],
}  # fmt: skip

# name: (class, config class, fields)
ZOO: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT),
    "gpt2_scales": ("GPT2LMHeadModel", "GPT2Config", GPT | {"scale_attn_by_inverse_layer_idx": True, "n_inner": 31,
                                                          "activation_function": "gelu"}),
    "gpt2_unscaled": ("GPT2LMHeadModel", "GPT2Config", GPT | {"scale_attn_weights": False}),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT),
    "gpt_bigcode_mha": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT | {"multi_query": False}),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", GPT | {"rotary_dim": 4}),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL | {"hidden_size": 24, "intermediate_size": 40,
                 "num_attention_heads": 3, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0,
                                                              "partial_rotary_factor": 0.5}}),
    "gpt_neox_sequential": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL | {"hidden_size": 24, "intermediate_size": 40,
                            "num_attention_heads": 3, "use_parallel_residual": False, "attention_bias": False}),
    "opt": ("OPTForCausalLM", "OPTConfig", SMALL | {"hidden_size": 24, "ffn_dim": 40, "num_attention_heads": 3}),
    "opt_350m": ("OPTForCausalLM", "OPTConfig", SMALL | {"hidden_size": 24, "ffn_dim": 40, "num_attention_heads": 3,
                 "do_layer_norm_before": False, "word_embed_proj_dim": 14}),
    "opt_plain": ("OPTForCausalLM", "OPTConfig", SMALL | {"hidden_size": 24, "ffn_dim": 40, "num_attention_heads": 3,
                  "enable_bias": False, "layer_norm_elementwise_affine": False, "activation_function": "gelu"}),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"vocab_size": 53, "hidden_size": 24, "n_layer": 3, "n_head": 3}),
    "bloom_normed": ("BloomForCausalLM", "BloomConfig", {"vocab_size": 53, "hidden_size": 24, "n_layer": 3, "n_head": 4,
                     "apply_residual_connection_post_layernorm": True}),
    "mpt": ("MptForCausalLM", "MptConfig", {"vocab_size": 53, "d_model": 24, "n_layers": 3, "n_heads": 3,
                                           "max_seq_len": 64}),
    "mpt_clipped": ("MptForCausalLM", "MptConfig", {"vocab_size": 53, "d_model": 24, "n_layers": 3, "n_heads": 6,
                    "max_seq_len": 64, "attn_config": {"clip_qkv": 0.6, "softmax_scale": 0.3}}),
    "falcon_old": ("FalconForCausalLM", "FalconConfig", SMALL | {"hidden_size": 24, "num_attention_heads": 3}),
    "falcon_rw": ("FalconForCausalLM", "FalconConfig", SMALL | {"hidden_size": 24, "num_attention_heads": 3,
                  "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}),
    "falcon_new": ("FalconForCausalLM", "FalconConfig", SMALL | {"hidden_size": 24, "num_attention_heads": 6,
                   "num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 31}),
    "falcon_new_one_norm": ("FalconForCausalLM", "FalconConfig", SMALL | {"hidden_size": 24, "num_attention_heads": 6,
                            "num_kv_heads": 3, "new_decoder_architecture": True, "num_ln_in_parallel_attn": 1}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"attention_bias": True, "mlp_bias": True,
              "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama_mqa_linear": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"num_key_value_heads": 1,
                         "tie_word_embeddings": True,
                         "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
    "llama_yarn": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"head_dim": 16, "rope_parameters": YARN}),
    "llama_yarn_untruncated": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"head_dim": 16, "rope_parameters": YARN | {
                               "truncate": False, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.3}}),
    "llama_llama3": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"head_dim": 16, "rope_parameters": {
                     "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                     "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
    "llama_dynamic": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"max_position_embeddings": 8, "rope_parameters": {
                      "rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}),
    "llama_longrope": ("LlamaForCausalLM", "LlamaConfig", HEADS | {"head_dim": 4, "rope_parameters": LONG}),
    "mistral": ("MistralForCausalLM", "MistralConfig", HEADS | {"sliding_window": 5}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", HEADS | {"num_local_experts": 5, "num_experts_per_tok": 3}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", HEADS),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", HEADS | {"sliding_window": 4, "query_pre_attn_scalar": 12}),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", HEADS | {"sliding_window": 4, "num_hidden_layers": 7,
               "query_pre_attn_scalar": 12, "rope_parameters": {
                   "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                   "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", LLAMA),
    "qwen2_windows": ("Qwen2ForCausalLM", "Qwen2Config", LLAMA | {"use_sliding_window": True, "sliding_window": 4,
                                                               "max_window_layers": 1}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", HEADS | {"attention_bias": True}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", HEADS | MOE | {"num_experts": 6, "mlp_only_layers": [1]}),
    "qwen3_moe_normed": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", HEADS | MOE | {"num_experts": 6,
                         "norm_topk_prob": True, "decoder_sparse_step": 2}),
    "phi": ("PhiForCausalLM", "PhiConfig", LLAMA | {"hidden_size": 48}),
    "phi_normed": ("PhiForCausalLM", "PhiConfig", LLAMA | {"hidden_size": 48, "qk_layernorm": True,
                   "hidden_act": "gelu"}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", LLAMA | {"sliding_window": 5, "pad_token_id": 0}),
    "phi3_longrope": ("Phi3ForCausalLM", "Phi3Config", LLAMA | {"pad_token_id": 0, "rope_parameters": LONG,
                      "original_max_position_embeddings": 8}),
    "cohere": ("CohereForCausalLM", "CohereConfig", LLAMA),
    "cohere_plus": ("CohereForCausalLM", "CohereConfig", LLAMA | {"use_qk_norm": True, "logit_scale": 0.3}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", LLAMA),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", LLAMA | {"no_rope_layer_interval": 2, "pad_token_id": 0}),
    "gpt_oss": ("GptOssForCausalLM", "GptOssConfig", HEADS | {"num_local_experts": 5, "num_experts_per_tok": 2,
                "sliding_window": 4, "rope_parameters": {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0,
                "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False, "original_max_position_embeddings": 16}}),
    "deepseek_v2": ("DeepseekV2ForCausalLM", "DeepseekV2Config", DEEPSEEK | {"topk_method": "group_limited_greedy"}),
    "deepseek_v2_lite": ("DeepseekV2ForCausalLM", "DeepseekV2Config", DEEPSEEK | {"q_lora_rank": None,
                         "topk_method": "greedy", "n_shared_experts": 1}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", DEEPSEEK),
    "deepseek_v3_yarn": ("DeepseekV3ForCausalLM", "DeepseekV3Config", DEEPSEEK | {"norm_topk_prob": False,
                         "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.8}}),
    "deepseek_v3_halves": ("DeepseekV3ForCausalLM", "DeepseekV3Config", DEEPSEEK | {"rope_interleave": False}),
    "t5": ("T5ForConditionalGeneration", "T5Config", {"vocab_size": 53, "d_model": 24, "d_kv": 7, "d_ff": 31,
           "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3, "relative_attention_num_buckets": 8,
           "relative_attention_max_distance": 16, "decoder_start_token_id": 0, "eos_token_id": None}),
    "t5_gated": ("T5ForConditionalGeneration", "T5Config", {"vocab_size": 53, "d_model": 24, "d_kv": 7, "d_ff": 31,
                 "num_layers": 2, "num_heads": 3, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
                 "decoder_start_token_id": 0, "eos_token_id": None}),
    "bart": ("BartForConditionalGeneration", "BartConfig", SEQ | {"max_position_embeddings": 40,
             "scale_embedding": True}),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", SEQ | {"max_position_embeddings": 40}),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", SEQ | {"num_mel_bins": 8,
                "max_source_positions": 9, "max_target_positions": 40, "decoder_attention_heads": 3,
                "begin_suppress_tokens": None, "suppress_tokens": None}),
}  # fmt: skip


def make_theirs(name: str, folder: Any, attention: str = "eager") -> Any:
    """transformers' model `name` in float64, saved in `folder`; noise is added to every parameter."""
    import torch
    import transformers

    model_class, config_class, fields = ZOO[name]
    torch.manual_seed(len(name))
    config = getattr(transformers, config_class)(**fields)
    config._attn_implementation = attention
    model = getattr(transformers, model_class)._from_config(config, attn_implementation=attention).double().eval()
    model.set_experts_implementation("eager") if hasattr(model, "set_experts_implementation") else None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for label, buffer in model.named_buffers():
            if label.endswith(("final_logits_bias", "e_score_correction_bias")):
                buffer.add_(0.2 * torch.randn_like(buffer))
    model.save_pretrained(folder)
    return model


def written_config(name: str) -> dict[str, Any]:
    """The config.json that transformers writes for the model `name`, without transformers' version."""
    import transformers

    _, config_class, fields = ZOO[name]
    facts = json.loads(getattr(transformers, config_class)(**fields).to_json_string(use_diff=False))
    return {key: value for key, value in sorted(facts.items()) if key != "transformers_version"}


def read_facts(fields: dict[str, Any]) -> Config:
    return make_config(Facts(FILE, fields))


def needed(fields: dict[str, Any]) -> dict[str, Any]:
    """The fewest fields (removed one by one, in order) from which kvsim reads the same Config."""
    whole = read_facts(fields)
    for key in list(fields):
        fewer = {k: v for k, v in fields.items() if k != key}
        try:
            same = read_facts(fewer) == whole
        except KvsimError:
            same = False
        fields = fewer if same else fields
    return fields


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(needed(written_config(name)))}" for name in ZOO]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
