"""Counts in a config.json are not believed: what can be counted is answered exactly, anything else is refused in one
line, and neither takes the time or the memory that the counts suggest."""

import json
import os

import pytest

import kvsim
from kvsim.blueprint import MOST_EXPERTS, build_weights
from kvsim.costs.bytes.memory import measure_memory
from kvsim.costs.bytes.parameters import measure_parameters
from kvsim.costs.bytes.policies import list_policies
from kvsim.costs.plans.planning import plan
from kvsim.costs.public.models import find_config
from kvsim.errors import FileError, KvsimError, UsageError, shortened
from kvsim.i18n.language import explain, words
from kvsim.loading.json_file import read_json
from kvsim.loading.loader import load
from kvsim.loading.small_models import FILE
from tests.fuzz.harness import Target, try_case
from tests.loading.folders import change_config, copy_demo

SECONDS = 5  # of processor time, many times what is needed; one by one, minutes would not do
SMALL = json.loads(FILE.read_text())
MIXTRAL = {"head_dim": 8, "hidden_size": 24, "intermediate_size": 40, "max_position_embeddings": 64,
           "model_type": "mixtral", "num_attention_heads": 6, "num_experts_per_tok": 3, "num_hidden_layers": 3,
           "num_key_value_heads": 2, "vocab_size": 53}  # fmt: skip
BLOOM = {"hidden_size": 2**33, "model_type": "bloom", "n_head": 2**33, "n_layer": 3, "vocab_size": 53}
MPT = {"d_model": 2**33, "max_seq_len": 64, "model_type": "mpt", "n_heads": 2**33, "n_layers": 3, "vocab_size": 53}
T5 = {"d_ff": 31, "d_kv": 7, "d_model": 24, "decoder_start_token_id": 0, "model_type": "t5", "num_decoder_layers": 3,
      "num_heads": 3, "num_layers": 2, "relative_attention_max_distance": 16, "relative_attention_num_buckets": 8,
      "vocab_size": 53}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(fields):
        path = tmp_path / "config.json"
        path.write_text(fields if isinstance(fields, str) else json.dumps(fields))
        return path

    return write


def within(function):
    """What `function` returns; it fails after SECONDS of processor time."""
    found = []
    target = Target("made", lambda folder: None, lambda random, folder: None, lambda given: found.append(function()))
    kind, text = try_case(target, 0, None, SECONDS)
    assert (kind, text) == ("answer", "")
    return found[0]


def extrapolate(small, large):
    """The value at 2^33 of a straight line through (8, small) and (16, large)."""
    return small + (2**33 - 8) * (large - small) // 8


@pytest.mark.parametrize("chosen", [3, None], ids=["three chosen", "all chosen"])
def test_experts_are_counted_not_built(write, chosen):
    def measure(experts):
        path = write(MIXTRAL | {"num_local_experts": experts, "num_experts_per_tok": chosen or experts})
        found = kvsim.cost(path, prompt=9, new=3)
        memory = measure_memory(path, [9])
        parts = [found.count.flops, found.cached.decode.moved.weights, memory.weight_bytes, memory.parameters.active]
        return [*parts, plan(path, "h100", 9, dtype="int8").setup.weight_bytes]

    found = within(lambda: measure(2**33))
    assert found == [extrapolate(small, large) for small, large in zip(measure(8), measure(16), strict=True)]


def test_experts_beyond_what_can_be_built_are_refused(write):
    path = write(MIXTRAL | {"num_local_experts": 2**33})
    config = find_config(path)[1]
    with pytest.raises(UsageError, match=f"25769803776 experts: more than {MOST_EXPERTS} are counted"):
        build_weights(config, lambda name, shape: None)
    with pytest.raises(UsageError, match="experts"):
        load(path.parent, backend="meta")


@pytest.mark.parametrize("fields", [BLOOM, MPT], ids=["bloom", "mpt"])
def test_heads_are_counted_not_listed(write, fields):
    path = write(fields)
    held = within(lambda: (measure_memory(path, [64], dtype="float16"), kvsim.count(path, prompt=64, dtype="float16")))
    assert held[0].contexts[0].logical == held[1].kv_bytes == 3 * 2 * 2**33 * 64 * 2
    assert held[1].by("site")["layers.2.scores"].macs == 2**33 * 64 * 64


def test_layers_are_limited(write):
    for fields, key in ((BLOOM, "n_layer"), (MIXTRAL | {"num_local_experts": 8}, "num_hidden_layers")):
        with pytest.raises(FileError, match=rf"{key} is 8589934592, expected 1 \.\. 10000"):
            within_error(lambda fields=fields, key=key: find_config(write(fields | {key: 2**33})))


def within_error(function):
    """Run `function`, whose KvsimError comes through."""
    target = Target("made", lambda folder: None, lambda random, folder: None, lambda given: function())
    kind, text = try_case(target, 0, None, SECONDS)
    assert kind == "refusal", text
    return function()


def test_layers_that_differ_in_the_scale_of_their_scores_alone_cost_the_same(write):
    fields = SMALL["gpt2_scales"]
    assert fields["scale_attn_by_inverse_layer_idx"]
    one, many = (kvsim.count(write(fields | {"n_layer": n}), prompt=9, new=3) for n in (1, 10_000))
    assert len(many.forms.kinds.members) == 1
    last = "layers.9999.scores"
    assert within(lambda: many.by("site"))[last] == one.by("site")["layers.0.scores"]


def test_policies_of_many_layers(write):
    """Rows are measured in one layer of each kind."""
    fields = SMALL["mistral"]
    one, many = (within(lambda n=n: list_policies(write(fields | {"num_hidden_layers": n}))).facts for n in (1, 10_000))
    assert [f.row_bytes and 10_000 * f.row_bytes for f in one] == [f.row_bytes for f in many]


def test_a_long_source_is_counted(write):
    near, far = (kvsim.count(write(SMALL["whisper"]), prompt=1, source=n) for n in (10**6, 10**18))
    sites = [c.by("site")["encoder.convolution"].macs for c in (near, far)]
    assert sites[1] == sites[0] * 10**12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"relative_attention_num_buckets": n}, f"relative_attention_num_buckets is {n}, expected n >= 4")
        for n in (1, 2, 3)
    ]
    + [
        ({"relative_attention_max_distance": 4}, "relative_attention_max_distance is 4, expected n > 4"),
        ({"relative_attention_max_distance": 2**33}, r"expected 1 \.\. 1048576"),
    ],
)
def test_buckets_that_cannot_be_computed_are_refused(write, changes, said):
    with pytest.raises(FileError, match=said):
        kvsim.cost(write(T5 | changes), prompt=50, new=3, source=30)


@pytest.mark.parametrize("changes", [{"relative_attention_num_buckets": 4}, {"relative_attention_max_distance": 5}])
def test_the_smallest_buckets_are_computed(write, changes):
    path = write(T5 | changes)
    assert kvsim.cost(path, prompt=50, new=3, source=30).count.flops
    assert within(lambda: kvsim.cost(write(T5 | {"relative_attention_max_distance": 2**20}), prompt=5, source=3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "more than 100 levels of nesting"),
        ('{"a":' * 300 + "1" + "}" * 300, "more than 100 levels of nesting"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' stands twice in one object"),
        ('{"vocab_size": ' + "9" * 5_000 + "}", "an integer of 5000 digits"),
        ('{"vocab_size": ' + "9" * 500 + "}", None),
        ("\ufeff{}", None),
        ('{"a": NaN, "b": -Infinity, "c": 1e999}', None),
        ('{"\\ud800": "\\udfff"}', None),
        ('{"a": 1', "not valid JSON"),
        ("[]", "must hold a JSON object"),
    ],
    ids=lambda v: v[:20].encode("ascii", "backslashreplace").decode() if v else None,
)
def test_json_is_read_or_refused_in_one_line(write, text, said):
    path = write(text)
    if said is None:
        assert isinstance(read_json(path), dict)
        return
    with pytest.raises(FileError, match=said) as caught:
        read_json(path)
    assert len(str(caught.value).splitlines()) == 1
    if {"levels", "twice", "digits"} & set(said.split()):
        reason = caught.value.values["reason"]
        assert explain(KvsimError("{reason}", reason=reason), words("zh")) != reason


def test_a_deep_value_has_a_message():
    value = []
    for _ in range(100_000):
        value = [value]
    assert shortened(value) == "<list: nested too deeply>"


def test_files_that_are_none_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "loop.json").symlink_to("loop.json")
    for name in ("pipe", "zero", "folder", "loop"):
        with pytest.raises(FileError):
            read_json(tmp_path / f"{name}.json")
    (tmp_path / "large.json").write_bytes(b" " * (4 * 2**20 + 1))
    with pytest.raises(FileError, match="more than the 4194304 bytes"):
        find_config(tmp_path / "large.json")


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("llama", {"vocab_size": True}, "vocab_size"),
        ("llama", {"vocab_size": "53"}, "vocab_size"),
        ("llama", {"vocab_size": 53.0}, "vocab_size"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ("llama", {"rms_norm_eps": float("inf")}, "rms_norm_eps"),
        ("llama", {"model_type": ["llama"]}, "model_type"),
        ("llama", {"rope_parameters": [1]}, "rope_parameters"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": [[]] * 9}}, "rope_theta"),
        ("llama", {"rope_parameters": {"type": [], "rope_theta": 1e4}}, "rope_type"),
        ("llama_dynamic", {"max_position_embeddings": 2**39, "rope_parameters": {"rope_type": "dynamic",
         "rope_theta": 1e4, "factor": 1e299}}, "max_position_embeddings"),
        ("gpt_neox", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1e299}},
         "partial_rotary_factor"),
        ("gemma2", {"attn_logit_softcapping": False}, "attn_logit_softcapping"),
        ("gemma2", {"final_logit_softcapping": []}, "final_logit_softcapping"),
        ("mpt", {"attn_config": {"alibi": True, "clip_qkv": ""}}, "clip_qkv"),
        ("qwen3_moe", {"mlp_only_layers": [[]]}, "mlp_only_layers"),
        ("smollm3", {"no_rope_layers": [True, 0, 1]}, "no_rope_layers"),
        ("t5", {"decoder_start_token_id": 10**300}, "decoder_start_token_id"),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_refused(write, name, changes, key):
    with pytest.raises(FileError, match=key) as caught:
        find_config(write(SMALL[name] | changes))
    assert len(str(caught.value).splitlines()) == 1


def test_a_window_longer_than_any_text_takes_no_room(tmp_path):
    model = load(change_config(copy_demo(tmp_path), model_type="mistral", sliding_window=2**39))
    cache = model.new_cache("dynamic")
    logits = model([1, 2, 3], cache)
    assert model.new_cache("dynamic").allocated_bytes <= cache.allocated_bytes < 2**21
    for split in range(4, 2_100, 500):
        model([4] * 500, cache)
        assert cache.layers[0].keys.shape[1] == split + 499
    assert cache.allocated_bytes <= 2 * cache.logical_bytes + 2**21
    assert (model([1, 2, 3]) == logits).all()


def test_parameters_do_not_list_experts(write):
    found = measure_parameters(find_config(write(MIXTRAL | {"num_local_experts": 8}))[1])
    assert (found.groups["experts"], found.idle) == (3 * (8 * 3 * 24 * 40 + 8 * 24), 3 * 5 * 3 * 24 * 40)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (MIXTRAL | {"vocab_size": 2**60}, "vocab_size is 1152921504606846976, expected 1 .. 1099511627775"),
        (T5 | {"decoder_start_token_id": 2**60}, "token_id is 1152921504606846976, expected 0 .. 1099511627775"),
        (MIXTRAL | {"rope_theta": 1e305}, "rope_theta is 1e+305, expected 0 < n < 1e+300"),
        (MIXTRAL | {"num_hidden_layers": 2**60}, "num_hidden_layers is 1152921504606846976, expected 1 .. 10000"),
        (T5 | {"relative_attention_num_buckets": 2**60}, "1152921504606846976, expected 1 .. 1099511627775"),
        (T5 | {"relative_attention_num_buckets": 3}, "relative_attention_num_buckets is 3, expected n >= 4"),
    ],
)  # fmt: skip
def test_a_number_that_is_too_large_meets_the_limit(write, fields, message):
    with pytest.raises(FileError) as caught:
        find_config(write(fields))
    assert message in str(caught.value)
