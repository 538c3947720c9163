"""Encoding text as ids and decoding ids."""

import copy
import json
import os
import pickle
import signal
import threading
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvsim
from kvsim.errors import FileError, UsageError
from kvsim.files.reading import OpenFile
from kvsim.loading.gguf.tokenizer import read_gguf_tokenizer
from kvsim.loading.tokenizers import library
from kvsim.loading.tokenizers.characters import CharacterTokenizer
from kvsim.loading.tokenizers.library import LibraryTokenizer, _byte_alphabet
from kvsim.loading.tokenizers.process import ProcessTokenizer
from kvsim.loading.tokenizers.reading import read_tokenizer
from kvsim.processes.channel import Channel
from tests.loading.folders import copy_demo
from tests.models import demo


def rewrite(folder, change):
    file = folder / "tokenizer.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    change(facts)
    file.write_text(json.dumps(facts), encoding="utf-8")
    return file


def test_known_characters_round_trip():
    tokenizer = demo().tokenizer
    assert isinstance(tokenizer, CharacterTokenizer)
    text = "What is KV caching? 中华人民\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(piece.text for piece in tokenizer.split(text)) == text


@given(st.text())
def test_any_text_is_split_without_loss(text):
    pieces = demo().tokenizer.split(text)
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.id for piece in pieces] == demo().tokenizer.encode(text)


def test_an_unknown_character_has_the_unknown_id_and_its_own_text():
    (piece,) = demo().tokenizer.split("龘")
    assert (piece.id, piece.text, piece.known) == (0, "龘", False)


def test_special_tokens_are_parsed():
    """As Hugging Face's tokenizer(text) does: `<unk>` in a text is the token, not five characters."""
    assert demo().tokenizer.encode("中<unk>国") == [*demo().tokenizer.encode("中"), 0, *demo().tokenizer.encode("国")]


def test_the_longest_special_token_is_found():
    tokenizer = CharacterTokenizer({"?": 0, "<": 1, "<a": 2, "<ab>": 3, "a": 4}, "?", ["<a", "<ab>"])
    assert tokenizer.encode("<ab><aa<<a") == [3, 2, 4, 1, 2]


def test_many_special_tokens_take_no_time():
    """One comparison for each length of theirs, not for each of them."""
    special = [f"{i:06}" for i in range(100_000)]
    tokenizer = CharacterTokenizer({"?": 0} | {token: i + 1 for i, token in enumerate(special)}, "?", special)
    compared = []

    class Counted(set):
        def __contains__(self, part):
            compared.append(part)
            return super().__contains__(part)

    tokenizer.special = Counted(tokenizer.special)
    assert tokenizer.encode("x000005xx") == [0, 6, 0, 0]
    assert len(compared) == 4


def test_an_id_without_a_token_is_shown_as_a_number():
    assert demo().tokenizer.decode([98, 758]) == "中[758]"


def test_a_missing_tokenizer_is_no_error(tmp_path):
    folder = copy_demo(tmp_path)
    (folder / "tokenizer.json").unlink()
    model = kvsim.load(folder)
    assert model.tokenizer is None
    assert kvsim.generate(model, [98], 3).ids == kvsim.generate(demo(), [98], 3).ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["model"]["vocab"].update({"a": 5000}), "ids below 758"),
        (lambda t: t["model"]["vocab"].update({"a": -1}), "ids below 758"),
        (lambda t: t["model"]["vocab"].update({"a": "1"}), "ids below 758"),
        (lambda t: t["model"]["vocab"].update({"a": t["model"]["vocab"]["b"]}), "two tokens"),
        (lambda t: t["model"].update(unk_token="?!"), "unknown token '?!' is not in its vocabulary"),
        (lambda t: t["added_tokens"].append({"content": "<s>"}), "added tokens are not in its vocabulary"),
        (lambda t: t.update(model="BPE"), "has not the fields of a tokenizer.json"),
        (lambda t: (t["model"]["vocab"].update({"": 0}), t["added_tokens"].append({"content": ""})), "two tokens"),
        (
            lambda t: (
                t["model"]["vocab"].pop("<unk>"),
                t["model"]["vocab"].update({"": 0}),
                t["model"].update(unk_token=""),
                t.update(added_tokens=[{"content": ""}]),
            ),
            "added tokens are not in its vocabulary",
        ),
        (lambda t: t["model"].update(vocab=[]), "vocabulary must map"),
    ],
)
def test_a_broken_tokenizer(tmp_path, change, message):
    file = rewrite(copy_demo(tmp_path), change)
    with pytest.raises(FileError) as caught:
        read_tokenizer(file, 758)
    assert message in str(caught.value)


def test_another_kind_needs_the_extra(tmp_path, monkeypatch):
    file = rewrite(copy_demo(tmp_path), lambda t: t["model"].update(type="BPE"))
    monkeypatch.setattr("kvsim.loading.tokenizers.reading.find_spec", lambda name: None)
    with pytest.raises(FileError, match=r'needs the extra hf: pip install "\.\[hf\]" in a clone'):
        read_tokenizer(file, 758)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(normalizer={"type": "Lowercase"}),
        lambda t: t.update(pre_tokenizer=None),
        lambda t: t.update(decoder=None),
        lambda t: t["pre_tokenizer"].update(behavior="Removed"),
        lambda t: t["pre_tokenizer"].update(pattern={"Regex": "\\w+"}),
    ],
)
def test_other_tokenizers_are_not_read_as_tables_of_characters(tmp_path, change, monkeypatch):
    """Those that normalise text or split it otherwise need the tokenizers library."""
    file = rewrite(copy_demo(tmp_path), change)
    monkeypatch.setattr("kvsim.loading.tokenizers.reading.find_spec", lambda name: None)
    with pytest.raises(FileError, match="needs the extra hf"):
        read_tokenizer(file, 758)


@cache
def in_a_process():
    """The demo's tokenizer, run by the library."""
    file = demo().path / "tokenizer.json"
    return ProcessTokenizer(file.read_bytes(), file, 758)


@pytest.mark.dev
@pytest.mark.parametrize("text", ["中华人民共和国", "What is KV caching?\n", "龘 中<unk>国 ", "", "a\tb\r\nc"])
def test_the_library_agrees(text):
    """The tokenizers library gives the same ids and text for the same file."""
    theirs = in_a_process()
    ours = demo().tokenizer
    assert theirs.encode(text) == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    assert [p.text for p in theirs.split(text)] == [p.text for p in ours.split(text)]


@pytest.mark.dev
def test_saved_truncation_and_padding_are_ignored():
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(str(demo().path / "tokenizer.json"))
    library.enable_truncation(2)
    library.enable_padding(length=9)
    assert LibraryTokenizer(library).encode("中华人民") == demo().tokenizer.encode("中华人民")


@pytest.mark.dev
def test_pieces_of_byte_fallback_and_of_byte_level_tokens():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    bytes_ = {f"<0x{b:02X}>": b for b in range(256)}
    merged = Tokenizer(models.BPE({**bytes_, "▁": 256, "h": 257, "▁h": 258}, [("▁", "h")], byte_fallback=True))
    merged.pre_tokenizer = pre_tokenizers.Metaspace()
    merged.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = LibraryTokenizer(merged)
    assert tokenizer.piece(0xE5) == "<0xE5>"
    assert [piece.text for piece in tokenizer.split("h中")][1:] == ["<0xE4>", "<0xB8>", "<0xAD>"]
    letters = {c: i for i, c in enumerate(_byte_alphabet())}
    pairs = Tokenizer(models.BPE({**letters, "ĠäĤ": 256, "aä": 257}, []))
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    pairs.decoder = decoders.ByteLevel()
    tokenizer = LibraryTokenizer(pairs)
    assert tokenizer.piece(257) == "a<0xE4>"
    assert [piece.text for piece in tokenizer.split(" 中")] == [" ", "<0xE4>", "<0xB8>", "<0xAD>"]


HOSTILE = Path(__file__).parent / "hostile_tokenizers"


@pytest.mark.dev
@pytest.mark.parametrize(("name", "said"), [
    ("charsmap", "its process ended, probably for lack of memory"),  # asks for 8.6 GB
    ("charsmap_empty", "Cannot parse precompiled_charsmap"),
    ("prefix", "slice index starts at 1 but ends at 0"),
])  # fmt: skip
def test_a_tokenizer_on_which_the_library_panics_or_aborts(name, said, capfd):
    with pytest.raises(FileError, match=r"cannot read .* as a tokenizer: ") as caught:
        read_tokenizer(HOSTILE / f"{name}.json", 758)
    assert said in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.dev
@pytest.mark.parametrize(("name", "text", "said"), [
    ("unk", "zz", "Missing [UNK] token"),
    ("regex", 40 * "x", "retry-limit-in-match over"),
    ("regex", 20 * (23 * "x" + " "), "it takes more processor time than a tokenizer needs"),
    ("template", "a", "no entry found for key"),
    ("growing", 9 * "a", "its process ended, probably for lack of memory"),
])  # fmt: skip
def test_a_text_on_which_the_library_fails(name, text, said, capfd):
    tokenizer = read_tokenizer(HOSTILE / f"{name}.json", 758)
    with pytest.raises(FileError, match=r"the tokenizer .* failed: ") as caught:
        tokenizer.encode(text)
    assert said in str(caught.value)
    if name == "unk":
        with pytest.raises(FileError, match="Missing"):
            tokenizer.split(text)
    if name != "template":
        assert tokenizer.encode("") == []  # its process is started again
    assert capfd.readouterr() == ("", "")


class Metadata:
    """Metadata of a GGUF file with a byte-pair tokenizer of three tokens."""

    path = Path("m.gguf")

    def __init__(self, **changes):
        self.known = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab"], "token_type": [1, 1, 1],
                      "merges": ["a b"], "bos_token_id": 0, "add_bos_token": True} | changes  # fmt: skip

    def read(self, key, default=None):
        found = self.known[key.removeprefix("tokenizer.ggml.")]
        return default if found is None else found

    def length(self, key):
        found = self.read(key)
        return len(found) if isinstance(found, list) else 0


@pytest.mark.dev
@pytest.mark.parametrize(("changes", "said"), [
    ({"tokens": 3}, "tokenizer.ggml.tokens is 3, expected a list of texts"),
    ({"token_type": "11"}, "tokenizer.ggml.token_type is '11', expected a list of numbers"),
    ({"merges": 5}, "tokenizer.ggml.merges is 5, expected a list of texts"),
    ({"merges": ["ab"]}, "tokenizer.ggml.merges is 'ab', expected two tokens whose joint text is a token, too"),
    ({"merges": ["a c"]}, "tokenizer.ggml.merges is 'a c', expected two tokens"),
    ({"bos_token_id": 3}, "tokenizer.ggml.bos_token_id is 3, expected 0 .. 2"),
    ({"bos_token_id": "a"}, "tokenizer.ggml.bos_token_id is 'a', expected a token id"),
    ({"pre": ["gpt-2"]}, "tokenizer.ggml.pre is ['gpt-2'], expected a text"),
    ({"tokens": ["a", "b", "ab", "c"]}, "tokenizer.ggml.tokens.length is 4, expected 0 .. 3"),
    ({"token_type": [3, 3, 3], "merges": [], "tokens": ["\ud800", "b", "ab"]}, "cannot read m.gguf as a tokenizer: "),
])  # fmt: skip
def test_metadata_that_contradict_one_another(changes, said):
    with pytest.raises(FileError) as caught:
        read_gguf_tokenizer(Metadata(**changes), 3)
    assert said in str(caught.value)


@pytest.mark.dev
def test_metadata_that_are_right_or_unknown():
    assert read_gguf_tokenizer(Metadata(), 3).encode("abb") == [0, 2, 1]
    assert read_gguf_tokenizer(Metadata(pre="martian"), 3) is None


@pytest.mark.dev
def test_an_id_that_the_model_does_not_have():
    tokenizer = ProcessTokenizer((demo().path / "tokenizer.json").read_bytes(), Path("t.json"), 98)
    for use in (tokenizer.encode, tokenizer.split):
        with pytest.raises(FileError, match="gives the id 98, and the model has 98"):
            use("中")
    assert tokenizer.decode([10**6]) == ""
    for use in (tokenizer.encode, tokenizer.split):
        with pytest.raises(UsageError, match="the text is not valid UTF-8"):
            use("\ud800")


@pytest.mark.dev
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_a_process_of_its_own(copied):
    one, other = in_a_process(), copied(in_a_process())
    assert other._child.process.pid != one._child.process.pid
    assert other.encode("中") == one.encode("中")
    process = other._child.process
    del other
    assert process.returncode == -signal.SIGKILL


@pytest.mark.dev
def test_threads_share_a_tokenizer():
    found = []

    def use(word):
        found.extend((word, in_a_process().encode(word)) for _ in range(50))

    threads = [threading.Thread(target=use, args=(word,)) for word in ("中", "华人", "人民民", "What?")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert all(ids == demo().tokenizer.encode(word) for word, ids in found)


@pytest.mark.dev
def test_an_interrupted_call_leaves_no_answer_behind(monkeypatch):
    tokenizer = copy.copy(in_a_process())

    def interrupt(channel, limit):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tokenizer.encode("中")
    assert tokenizer.encode("华") == demo().tokenizer.encode("华")


@pytest.mark.dev
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork")
def test_a_forked_process_starts_its_own():
    tokenizer = in_a_process()
    tokenizer.encode("中")
    pid = os.fork()
    if pid == 0:
        os._exit(tokenizer.encode("华") != demo().tokenizer.encode("华"))
    assert os.waitpid(pid, 0)[1] == 0
    assert tokenizer.encode("华") == demo().tokenizer.encode("华")


def test_a_tokenizer_is_read_once(tmp_path, monkeypatch):
    """A second reading could find another file."""
    file, opened = copy_demo(tmp_path) / "tokenizer.json", []
    read, expected = OpenFile.read, demo().tokenizer.encode("中")  # loading the demo reads files too
    monkeypatch.setattr(OpenFile, "read", lambda self, *given: opened.append(given) or read(self, *given))
    assert read_tokenizer(file, 758).encode("中") == expected
    assert len(opened) == 1


def test_a_tokenizer_beyond_any_in_use(tmp_path):
    file = tmp_path / "tokenizer.json"
    with file.open("wb") as sparse:
        sparse.truncate(64 * 2**20 + 1)
    with pytest.raises(FileError, match="has more than the 67108864 bytes allowed"):
        read_tokenizer(file, 758)


@pytest.mark.dev
def test_the_limits_of_a_large_file_are_capped(monkeypatch):
    space, time = [], []
    monkeypatch.setattr("kvsim.loading.tokenizers.library._limit_space", space.append)
    monkeypatch.setattr("kvsim.loading.tokenizers.library._limit_time", time.append)
    with pytest.raises(Exception, match=r"expected|EOF"):
        library._load(bytes(2**26))
    assert (space, time) == ([2**30], [40.0])
