"""Fields missing from a config.json take transformers' defaults, and are reported as assumed."""

import json
from pathlib import Path

import pytest

import kvsim
from kvsim.costs.public.models import find_assumed, find_config, read_catalogue
from kvsim.errors import FileError
from kvsim.loading import families
from kvsim.loading.config_file import make_config, read_config, read_config_facts
from kvsim.loading.defaults import read_all
from kvsim.loading.facts import Facts
from kvsim.loading.families import FAMILIES
from kvsim.loading.small_models import FILE as SMALL
from tests.loading.folders import change_config, copy_demo

TWO = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 40}
SWITCHED_ON = TWO | {"num_key_value_heads": 2, "use_sliding_window": True}


def facts_of(model_type, **fields):
    return Facts(Path("config.json"), {"model_type": model_type, **fields})


def read(model_type, **fields):
    return make_config(facts_of(model_type, **fields))


def refused(model_type, **fields):
    with pytest.raises(FileError) as caught:
        read(model_type, **fields)
    return str(caught.value)


def test_every_family_has_defaults():
    assert set(read_all()) == set(FAMILIES)


def test_families_read_only_through_the_facts():
    """A field read otherwise would be unchecked, unreported and without a default."""
    for file in Path(families.__file__).parent.glob("*.py"):
        assert "facts.fields" not in file.read_text(encoding="utf-8"), file.name


# Expected values copied by hand from the source of transformers' classes.
def test_an_empty_llama_config():
    facts = facts_of("llama")
    config = make_config(facts)
    assert (config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.d_head) == (
        32,
        4096,
        32,
        32,
        128,
    )
    assert (config.vocab_size, config.max_context, config.d_ff, config.norm_eps) == (32000, 2048, 11008, 1e-6)
    assert facts.assumed == {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False,
        "mlp_bias": False, "tie_word_embeddings": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("family", "fields", "expected"),
    [
        ("llama", TWO, {"n_kv_heads": 4, "d_head": 8}),  # both derived from fields of the file
        ("mistral", TWO | {"num_attention_heads": 16}, {"n_kv_heads": 8, "d_head": 2}),
        ("qwen2", TWO | {"num_attention_heads": 32, "hidden_size": 64}, {"n_kv_heads": 32, "d_head": 2}),
        ("qwen2", TWO | {"num_key_value_heads": None}, {"n_kv_heads": 4}),  # null: as many as query heads
        ("qwen3", TWO | {"num_key_value_heads": 2}, {"d_head": 128}),
        ("gemma", TWO | {"num_key_value_heads": 2}, {"d_head": 256, "activation": "gelu_tanh", "tied_head": True}),
        ("gpt2", {"n_embd": 36}, {"d_ff": 144, "n_layers": 12, "d_head": 3}),
        ("gpt2", {"n_embd": 36, "n_inner": 7}, {"d_ff": 7}),
        ("falcon", {"hidden_size": 142}, {"n_kv_heads": 1, "d_ff": 568, "d_head": 2, "residual": "parallel"}),
        ("opt", {"hidden_size": 24}, {"d_ff": 3072, "d_embedding": None, "activation": "relu"}),
        ("cohere", TWO, {"logit_scale": 0.0625, "n_kv_heads": 4, "tied_head": True}),
        ("t5", {"num_layers": 2}, {"n_layers": 2, "activation": "relu", "start_id": None}),
        ("whisper", {}, {"start_id": 50257, "vocab_size": 51865}),
        ("mbart", {}, {"start_id": None}),
        ("gemma2", {}, {"score_cap": 50.0, "logit_cap": 30.0}),
        ("gemma2", {"attn_logit_softcapping": None}, {"score_cap": None, "logit_cap": 30.0}),
        ("falcon", {"hidden_size": 142, "multi_query": None}, {"n_kv_heads": 71}),  # null is falsy in Python
        ("falcon", {"parallel_attn": None}, {"residual": "pre"}),
    ],
)
def test_derived_fields_and_defaults(family, fields, expected):
    config = read(family, **fields)
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("family", "fields", "windows", "theta"),
    [
        ("mistral", TWO | {"num_key_value_heads": 2}, [4096, 4096], 1e4),
        ("mistral", TWO | {"num_key_value_heads": 2, "sliding_window": None}, [None, None], 1e4),
        ("mixtral", TWO | {"num_key_value_heads": 2}, [None, None], 1e6),
        ("smollm3", TWO | {"rope_scaling": None}, [None, None], 2e6),
        ("cohere", TWO, [None, None], 5e5),
        ("gpt_oss", TWO | {"num_key_value_heads": 2}, [128, None], 15e4),
        ("qwen2", SWITCHED_ON, [None, None], 1e4),  # windows start at layer 28
        ("qwen2", SWITCHED_ON | {"max_window_layers": 1}, [None, 4096], 1e4),
    ],
)  # fmt: skip
def test_windows_and_rotary_bases(family, fields, windows, theta):
    layers = read(family, **fields).layers
    assert [kind.window for kind in layers] == windows
    assert {kind.rope.theta for kind in layers} == {theta}


def test_missing_rope_tables():
    rope = read("gpt_oss").layers[0].rope
    assert (rope.kind, rope.factor, rope.original, rope.truncate) == ("yarn", 32.0, 4096, False)
    assert read("gpt_oss", rope_parameters=None).layers[0].rope == rope
    assert read("gpt_oss", rope_scaling={"rope_type": "linear", "factor": 2.0}).layers[0].rope.kind == "linear"
    local, full = read("gemma3_text", num_hidden_layers=6, rope_parameters={"full_attention": {"factor": 8.0,
                       "rope_type": "linear"}}).layers[4:]  # fmt: skip
    assert (local.rope.theta, local.rope.kind, full.rope.theta, full.rope.kind) == (1e4, "default", 1e6, "linear")
    facts = facts_of("mpt", attn_config={"clip_qkv": 6})
    assert make_config(facts).clip_qkv == 6.0
    assert facts.assumed["attn_config.alibi"] is True
    assert "attn_config.clip_qkv" not in facts.assumed


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("deepseek_v2", {}, "lacks the field num_experts_per_tok"),  # the class has no default for it
        ("deepseek_v2", {"num_experts_per_tok": 2, "topk_method": "group_limited_greedy"}, "lacks the field n_group"),
        ("llama", {"rope_scaling": {"rope_type": "yarn"}}, "lacks the field factor"),
        ("llama", {"hidden_size": 33}, "hidden_size is 33, expected 32 · n"),
        ("mistral", TWO, "4 query heads cannot share 8 key/value heads"),
        ("mistral", {"num_key_value_heads": None}, "num_key_value_heads is None, expected a value, or the field left"),
        ("gpt_oss", {"head_dim": None}, "head_dim is None"),
        ("gptj", {"rotary_dim": None}, "rotary_dim is None"),
        ("t5", {"num_hidden_layers": 2}, "lacks the field num_decoder_layers"),
        ("gptj", {"n_embd": 512}, "rotary_dim is 64, expected 2 · n <= 32"),  # the default is too large
        ("llama", {"rope_theta": None}, "rope_theta is None"),
        ("phi", {"partial_rotary_factor": None}, "partial_rotary_factor is None"),
        ("cohere", {"logit_scale": None}, "logit_scale is None, expected a positive number"),
        ("gemma2", {"sliding_window": None}, "sliding_window is None, expected a positive integer"),
        ("mpt", {"attn_config": {"alibi": None}}, "alibi is None"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types is ['full_attention'], expected one of"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types is ['full_attention'], expected one of"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers is [1], expected 0 or 1 for each layer"),
        ("gpt2", {"n_layer": 3, "num_hidden_layers": 4}, "n_layer is 3, but num_hidden_layers, another name for"),
        ("gpt2", {"n_layer": 3, "num_hidden_layers": None}, "num_hidden_layers, another name for it, is None"),
        ("gpt2", {"num_hidden_layers": None}, "num_hidden_layers is None"),
        ("bloom", {"hidden_size": 64, "n_embed": 128}, "hidden_size is 64, but n_embed, another name"),
        ("bert", {}, "bert is an encoder"),
        ("martian", {}, "model_type is 'martian'"),
    ],
)  # fmt: skip
def test_fields_that_cannot_be_assumed(family, fields, message):
    assert message in refused(family, **fields)


@pytest.mark.parametrize(
    ("family", "other", "own"),
    [
        ("gpt2", "num_hidden_layers", "n_layer"),
        ("bloom", "n_embed", "hidden_size"),
        ("falcon", "n_embed", "hidden_size"),
        ("mpt", "num_attention_heads", "n_heads"),
        ("t5", "head_dim", "d_kv"),
        ("bart", "hidden_size", "d_model"),
        ("qwen3_moe", "num_local_experts", "num_experts"),
        ("mixtral", "num_experts", "num_local_experts"),
        ("deepseek_v3", "num_local_experts", "n_routed_experts"),
    ],
)
def test_other_names_take_precedence_over_defaults(family, other, own):
    value = {"n_embed": 568, "hidden_size": 64, "num_experts": 16, "num_local_experts": 16, "head_dim": 5}.get(other, 4)
    facts = facts_of(family, **{other: value})
    assert make_config(facts) == read(family, **{own: value}) == read(family, **{own: value, other: value})
    assert own not in facts.assumed
    assert make_config(facts) != read(family)


def test_an_old_name_that_is_null_is_ignored():
    assert read("bloom", n_embed=None, hidden_size=128) == read("bloom", hidden_size=128)


def test_assumed_fields_are_reported(tmp_path):
    folder = change_config(copy_demo(tmp_path), tie_word_embeddings=..., rms_norm_eps=...)
    config, assumed = read_config_facts(folder / "config.json")
    assert assumed["tie_word_embeddings"] is False
    assert assumed["rms_norm_eps"] == 1e-6
    assert config == read_config(folder / "config.json") == find_config(folder)[1]
    assert find_assumed(folder) == find_assumed(folder / "config.json") == assumed
    written = json.loads((folder / "config.json").read_text())
    assert not set(written) & set(assumed)
    assert find_assumed(config) == {}


def test_only_missing_fields_that_are_read_are_reported():
    assert find_assumed("mistral-7b-v0.1").keys() & read_catalogue()["mistral-7b-v0.1"]["config"].keys() == set()
    assert find_assumed("llama-3.1-405b").keys() <= {"head_dim", "attention_bias", "mlp_bias", "tie_word_embeddings"}
    unused = {"topk_method": "greedy", "num_experts_per_tok": 2}
    facts = facts_of("deepseek_v2", **unused)
    make_config(facts)
    assert not {"n_group", "topk_group", "norm_topk_prob", "original_max_position_embeddings"} & set(facts.assumed)
    facts = facts_of("llama", rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 5.0})
    make_config(facts)
    rope = {key: value for key, value in facts.assumed.items() if key.startswith("rope")}
    assert rope == {"rope_parameters.original_max_position_embeddings": 2048, "rope_parameters.beta_fast": 32.0,
                    "rope_parameters.beta_slow": 1.0, "rope_parameters.truncate": True}  # fmt: skip


def test_reading_does_not_change_the_fields():
    for fields in [entry["config"] for entry in read_catalogue().values()] + list(
        json.loads(SMALL.read_text()).values()
    ):
        before, facts = json.dumps(fields), Facts(SMALL, fields)
        first = make_config(facts)
        assert json.dumps(fields) == before
        again = Facts(SMALL, fields)
        assert (make_config(again), again.assumed) == (first, facts.assumed)


@pytest.mark.parametrize(
    ("family", "written", "generation", "start"),
    [
        ("bart", {}, {"decoder_start_token_id": 7}, 7),  # takes precedence over the class's default
        ("bart", {}, {}, 2),
        ("bart", {"decoder_start_token_id": 5}, {"decoder_start_token_id": 7}, 5),
        ("t5", {}, {"decoder_start_token_id": 7}, 7),
        ("t5", {}, {}, None),
        ("t5", {"decoder_start_token_id": 0}, {"decoder_start_token_id": 7}, 0),
    ],
)
def test_the_decoder_start_id(family, written, generation, start, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "vocab_size": 9, **written}))
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert kvsim.load(tmp_path, backend="meta").config.start_id == start
