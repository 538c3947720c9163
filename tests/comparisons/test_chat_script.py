"""Scripts of conversations: their lines, their totals, and files of turns."""

import json
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.comparisons.chat_script import DEFAULT, read_turns, run_chat
from kvsim.comparisons.conversation import Conversation
from kvsim.errors import FileError, UsageError
from tests.models import demo

SCHEMA = json.loads((Path(kvsim.__file__).parent / "schemas" / "chat-1.json").read_text(encoding="utf-8"))


def test_a_script_equals_the_same_conversation_by_hand():
    chat = run_chat(
        ["你好！", "今天", "中华"],
        demo(),
        max_new_tokens=3,
        forks=[(2, "床前"), (1, "白日")],
        edits=[(2, "今年"), (2, "明月")],
    )
    talk = Conversation(demo())
    turns = [talk.say("你好！", 3)]
    beside = [talk.fork().say("白日", 3)]
    turns.append(talk.say("今天", 3))
    beside.append(talk.fork().say("床前", 3))
    turns.append(talk.say("中华", 3))
    edits = [talk.edit(2, "今年"), talk.edit(2, "明月")]
    assert [line.turn for line in chat.lines] == [*turns, *beside, *edits]
    assert [line[:2] for line in chat.lines] == [
        ("turn", 1), ("turn", 2), ("turn", 3), ("fork", 1), ("fork", 2), ("edit", 2), ("edit", 2),
    ]  # fmt: skip
    assert chat.totals.reused.macs == sum(turn.reused.counts.macs for turn in [*turns, *beside, *edits])
    assert chat.totals.fresh.score_cells == sum(turn.fresh.counts.score_cells for turn in [*turns, *beside, *edits])
    assert chat.agrees
    jsonschema.validate(json.loads(chat.to_json()), SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_refuses_missing_and_unknown_fields():
    record = run_chat(["中"], demo(), max_new_tokens=2).to_dict()
    for path in (("turns", 0, "reused", "macs"), ("turns", 0, "cached"), ("totals", "fresh")):
        copy = json.loads(json.dumps(record))
        place = copy
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(copy, SCHEMA)
    record["turns"][0]["reused"]["other"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, SCHEMA)


def test_the_default_turns_have_no_unknown_token():
    chat = run_chat(DEFAULT, demo())
    assert chat.unknown == []
    assert len(chat.lines) == 4


def test_unknown_pieces_are_listed_once():
    assert run_chat(["龘中龘", "国䨻龘"], demo(), max_new_tokens=1).unknown == ["龘", "䨻"]


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ([], {}, "at least one turn"),
        (["中", ""], {}, "the text is empty"),
        (["中"], {"edits": [(2, "国")]}, "there is no turn 2: this conversation has 1"),
        (["中"], {"forks": [(0, "国")]}, "there is no turn 0"),
        (["中"] * 200, {"max_new_tokens": 6}, "a context of 1024 tokens"),
        (["中", "国"], {"cache": "static:9"}, "static cache holds 9 tokens, asked for 17"),
        (["中"], {"max_new_tokens": 0}, "at least 1, got 0"),
        (["中"], {"cache": "lru"}, "unknown cache 'lru'"),
    ],
)
def test_a_script_that_does_not_fit_is_refused_before_it_runs(texts, options, said, monkeypatch):
    monkeypatch.setattr(Conversation, "_add", lambda *_: pytest.fail("it began"))
    with pytest.raises(UsageError) as caught:
        run_chat(texts, demo(), **options)
    assert said in str(caught.value)


def test_an_edit_drops_the_turns_after_it():
    with pytest.raises(UsageError, match="there is no turn 3: this conversation has 1"):
        run_chat(["中", "国", "人"], demo(), max_new_tokens=1, edits=[(1, "华"), (3, "民")])


def test_a_lossy_cache_may_differ_and_restarts():
    chat = run_chat(["床前明月光，", "今天"], demo(), "window:3", 3, edits=[(1, "白日")])
    assert not chat.lossless
    assert chat.lines[-1].turn.restart is not None
    assert chat.agrees
    record = json.loads(chat.to_json())
    assert "cannot be cropped" in record["turns"][-1]["restart"]
    jsonschema.validate(record, SCHEMA)


def test_a_fault_is_found(monkeypatch):
    from kvsim.caches.specs import POLICIES
    from tests.comparisons.test_trace import Forgetful

    monkeypatch.setitem(POLICIES, "dynamic", Forgetful)
    chat = run_chat(["床前明月光，", "今天"], demo())
    assert chat.wrong
    assert not chat.agrees


def test_turns_from_a_file(tmp_path):
    file = tmp_path / "turns.json"
    file.write_text('["你好！", "a\\nb"]', encoding="utf-8")
    assert read_turns(file) == ["你好！", "a\nb"]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("{", "is not valid JSON"),
        ("{}", "must hold a JSON list of texts, one per turn, at least one; got dict"),
        ('"text"', "got str"),
        ("[]", "at least one; got []"),
        ('["a", 3]', "turn 2 must be a text that is not empty, got int"),
        ('["a", ""]', 'turn 2 must be a text that is not empty, got ""'),
        ('["a", null]', "turn 2 must be a text that is not empty, got NoneType"),
        ('["\\ud800"]', "turn 1 is not valid Unicode"),
        (b'["\xff"]', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('["' + "a" * 2**20 + '"]', "has more than the 1048576 bytes allowed"),
        (None, "there is no such file"),
    ],
)
def test_a_file_without_turns(held, said, tmp_path):
    file = tmp_path / "turns.json"
    if held is not None:
        file.write_bytes(held if isinstance(held, bytes) else held.encode())
    with pytest.raises(FileError) as caught:
        read_turns(file)
    assert said in str(caught.value)


def test_progress_is_reported():
    reported = []
    run_chat(["中", "国"], demo(), max_new_tokens=1, forks=[(1, "华")], edits=[(1, "人")],
             progress=lambda *step: reported.append(step))  # fmt: skip
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_every_line_follows_the_turns_before_it():
    turns = ["什么是KV缓存？", "床前明月光，", "今天天气"]
    chat = run_chat(
        turns, demo(), max_new_tokens=3, forks=[(1, "中华人民")], edits=[(2, "床前白日"), (2, "白日")], pieces=True
    )
    assert [chat.before(i) for i in range(6)] == [[], [0], [0, 1], [0], [0], [0]]
    later = run_chat(turns, demo(), max_new_tokens=3, edits=[(2, "白日"), (1, "白日")])
    assert [later.before(i) for i in range(5)] == [[], [0], [0, 1], [0], []]
    for i, line in enumerate(chat.lines):
        turns_before = [chat.lines[j].turn for j in chat.before(i)]
        assert line.turn.start == (turns_before[-1].stop if turns_before else 0)
    # The cache had seen all but the last token of the reply before; what both texts share stays.
    first = chat.lines[0].turn.stop
    assert [line.turn.cached - first for line in chat.lines[4:]] == [2, 0]
    fed_before = [chat.lines[i].turn.stop - 1 for i in (2, 4)]
    assert [line.turn.dropped for line in chat.lines] == [0, 0, 0, 0, fed_before[0] - first - 2, fed_before[1] - first]
    texts = {piece.id: piece.text for piece in chat.pieces}
    assert "".join(texts[i] for i in chat.lines[1].turn.ids) == turns[1]
    assert run_chat(turns, demo(), max_new_tokens=3).pieces == ()
