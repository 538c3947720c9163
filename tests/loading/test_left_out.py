"""Missing or null fields of config.json files: kvsim reads the same config as from the file that transformers completes
(extra dev). Every field that kvsim reads, of every family; one at a time, and several at once."""

import ast
import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kvsim.errors import FileError
from kvsim.loading import families
from kvsim.loading.config_file import make_config, read_config
from kvsim.loading.defaults import FILE, read_defaults
from kvsim.loading.facts import Facts
from kvsim.loading.families import FAMILIES
from tests.loading.zoo import ZOO, written_config

pytestmark = pytest.mark.dev
# Fields of the classes whose names occur in the families' source, but that are not read.
UNREAD = {
    "deepseek_v2": {"head_dim", "norm_topk_prob", "num_key_value_heads"},  # latent attention has neither; not used
    "deepseek_v3": {"num_key_value_heads"},
    "gemma3_text": {"attn_logit_softcapping"},  # stored and not used
    "whisper": {"scale_embedding"},  # read and not used
}
# transformers refuses a width that is no multiple of the number of heads even where head_dim or other sizes of a head
# are given.
STRICTER = "is not a multiple of the number of attention heads"
# Files that transformers accepts and kvsim refuses: a config from which transformers then cannot build a model (a key
# of the table is missing), and a decoder whose depth is the class's default because the encoder's has another name.
REFUSED = {
    "phi": lambda fields: fields.get("partial_rotary_factor", 1.0) is None,
    "t5": lambda fields: "num_layers" not in fields and fields.get("num_decoder_layers") is None,
}
BASES = [*ZOO, *(f"{name} older" for name in ZOO), *(f"{family} by itself" for family in FAMILIES)]
OLD_ROPE = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}


def older(fields):
    """The same config.json as written before transformers 5, with the other names that fields may have."""
    family, fields = fields["model_type"], dict(fields)
    table = fields.pop("rope_parameters", None)
    if family == "gemma3_text":
        full, local = table["full_attention"], table["sliding_attention"]
        fields |= {"rope_theta": full.pop("rope_theta"), "rope_local_base_freq": local["rope_theta"]}
        fields |= {"rope_scaling": full, "sliding_window_pattern": 3, "layer_types": None}
    elif table:
        outside = [key for key in ("rope_theta", "partial_rotary_factor") if key in table]
        fields |= {OLD_ROPE.get(family, {}).get(key, key): table.pop(key) for key in outside}
        fields["rope_scaling"] = None if table["rope_type"] == "default" else table
        if family != "gpt_oss":  # whose class has a default table
            fields["rope_scaling"] = table
    for other, own in read_defaults(family).aliases.items():
        if own in fields:
            fields[other] = fields.pop(own)
    return fields


@cache
def base(name):
    """A complete config.json."""
    if name.endswith(" by itself"):
        from transformers import AutoConfig

        fields = json.loads(AutoConfig.for_model(name.removesuffix(" by itself")).to_json_string(use_diff=False))
        fields = {key: value for key, value in fields.items() if key != "transformers_version"}
        # The one class whose defaults describe no model.
        return fields | ({"num_experts_per_tok": 6} if fields["model_type"] == "deepseek_v2" else {})
    fields = json.loads(json.dumps(written_config(name.removesuffix(" older"))))
    return older(fields) if name.endswith(" older") else fields


def filled(folder, fields):
    """A config.json completed by transformers, or the exception that it raises."""
    from transformers import AutoConfig

    (folder / "config.json").write_text(json.dumps(fields))
    try:
        return json.loads(AutoConfig.from_pretrained(folder).to_json_string(use_diff=False))
    except Exception as error:
        return error


def outcome(folder, fields):
    """kvsim's Config from a config.json, or None if it is refused."""
    (folder / "config.json").write_text(json.dumps(fields))
    try:
        return read_config(folder / "config.json")
    except FileError:
        return None


def read_fields(fields):
    """The fields of a config.json that kvsim reads."""
    facts = Facts(Path("config.json"), fields)
    make_config(facts)
    names = read_defaults(facts.family).aliases
    return [key for key in fields if names.get(key, key) in facts.asked and key != "model_type"]


def same(folder, fields):
    """Assert that kvsim reads the same Config from `fields` and from transformers' completion of them. True, or None
    where both refuse."""
    theirs, ours = filled(folder, fields), outcome(folder, fields)
    if isinstance(theirs, Exception):
        assert ours is None or STRICTER in str(theirs), theirs
        return None
    if ours is None and REFUSED.get(fields["model_type"], lambda _: False)(fields):
        return None
    assert ours == outcome(folder, theirs)
    return None if ours is None else True


@pytest.mark.parametrize("name", BASES)
def test_any_field_left_out(name, tmp_path):
    whole = base(name)
    assert same(tmp_path, whole)
    keys = read_fields(whole)
    read = [same(tmp_path, {k: v for k, v in whole.items() if k != key}) for key in keys]
    assert len(keys) >= 8
    assert read.count(True) >= len(keys) * 2 // 3  # most fields may be missing
    if name.endswith(" by itself"):
        assert [key for key, fine in zip(keys, read, strict=True) if not fine] in ([], ["num_experts_per_tok"])


@pytest.mark.parametrize("name", BASES)
def test_any_field_null(name, tmp_path):
    whole = base(name)
    for key in read_fields(whole):
        same(tmp_path, whole | {key: None})


@given(st.sampled_from(BASES), st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_fields_left_out_or_null(tmp_path, name, data):
    whole = base(name)
    keys = read_fields(whole)
    without = data.draw(st.sets(st.sampled_from(keys)))
    nulls = data.draw(st.sets(st.sampled_from(keys), max_size=2))
    # A default width that is no multiple of the file's heads: refused here, rounded down by transformers.
    assume(not {"hidden_size", "head_dim"} <= without | nulls)
    fields = {key: None if key in nulls else value for key, value in whole.items() if key not in without}
    same(tmp_path, fields)


def test_the_data_file_equals_the_classes_defaults():
    """Those of the installed transformers, which may be another release than the one named in the file."""
    from tests.loading.defaults import read_classes

    def after_the_release(text):
        return text.partition(", ")[2]

    text = FILE.read_text(encoding="utf-8")
    assert after_the_release(read_classes()) == after_the_release(text)
    assert text.startswith('{"transformers": "5.')


def words_of(module, seen):
    """The strings in a family's source, and in that of the families that it imports."""
    if module in seen:
        return set()
    seen.add(module)
    tree = ast.parse((Path(families.__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{families.__name__}."):
            found |= words_of(node.module.rpartition(".")[2], seen)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_no_field_was_missed(family):
    """The data file's fields were collected by reading configs; here they are searched for in the source."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from tests.loading.defaults import own_fields

    named = words_of(FAMILIES[family], set()) & set(own_fields(CONFIG_MAPPING[family]))
    assert named - set(read_defaults(family).values) == UNREAD.get(family, set())
