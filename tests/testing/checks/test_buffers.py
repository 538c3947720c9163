"""Attention that reads preallocated buffers with a length: right code in two styles and every dtype, wrong code named,
and rows that were never written."""

import re

import numpy as np
import pytest

from kvsim import testing
from kvsim.cli import run
from kvsim.errors import UsageError
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from kvsim.testing.bank.mistake import IN_BUFFERS, of_whole_buffer
from kvsim.testing.bank.paths import Path
from kvsim.testing.subject.attention import JUNK, Inputs, attend, choose_lengths
from tests.testing.checks.test_attention import DTYPES, in_dtype, numpy_dtype, softmax


def masked(q, k, v, length, window=None, *, end=0, causal=True, zeroed=True):
    """Scores of the whole buffer, masked. Rows up to `length + end` are valid (None: all); `zeroed`: the others are
    replaced by zeros before any product."""
    (t, heads), (n, groups) = q.shape[1:3], k.shape[1:3]
    key, query = np.arange(n), (length[:, None] - t + np.arange(t))[:, :, None]
    seen = (key <= query) | (not causal)
    if window is not None:
        seen = seen & (key > query - window)
    if end is not None:
        seen = seen & (key < length[:, None, None] + end)
    if zeroed:
        k, v = (np.where((key < length[:, None])[:, :, None, None], x, np.zeros((), x.dtype)) for x in (k, v))
    k, v = (np.repeat(x, heads // groups, 2) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(np.asarray(q.shape[-1], q.dtype))
    return np.einsum("bhts,bshd->bthd", softmax(np.where(seen[:, None], scores, np.asarray(-np.inf, q.dtype))), v)


def cut(q, k, v, length, window=None):
    """A loop over the sequences, each cut to its length."""
    each = [
        masked(q[i : i + 1], k[i : i + 1, :n], v[i : i + 1, :n], length[i : i + 1], window)
        for i, n in enumerate(length)
    ]
    return np.concatenate(each)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("style", [masked, cut])
@pytest.mark.parametrize("window", [None, 4])
def test_right_code_is_accepted(style, dtype, window):
    kind, came = numpy_dtype(dtype), set()

    def function(q, k, v, length, **words):
        came.add((length.dtype.name, k.shape[1]))
        return in_dtype(dtype, style)(q, k, v, length=length, **words)

    testing.assert_attention(function, kv_heads=2, dtype=dtype, array=lambda x: x.astype(kind), window=window,
                             buffer=40, cases=3)  # fmt: skip
    assert came == {("int32", 40)}  # also where `array` makes floating point numbers of whole ones


def test_other_layouts():
    def one(q, k, v, length):
        assert type(length) is int
        return masked(q[None], k[None], v[None], np.array([length]))[0]

    testing.assert_attention(one, "t h d", kv_heads=2, buffer=8)
    testing.assert_attention(cut, kv_heads=2, buffer=64, rotated=True, batch=3, length=50)
    (case,) = testing.cases(kv_heads=[2], buffer=[64])
    assert str(case).endswith("-float64-buffer=64")
    case.check(masked)
    with pytest.raises(OracleError, match=r"\[newest_row_not_read\]"):
        case.check(lambda q, k, v, length: masked(q, k, v, length, end=-1))


def diagnosis(function, **more):
    with pytest.raises(OracleError) as caught:
        testing.assert_attention(function, kv_heads=2, buffer=64, **more)
    return caught.value.facts["diagnosis"]


def same(pick):
    """One length for all sequences, chosen by `pick`."""
    return lambda q, k, v, length: masked(q, k, v, np.full_like(length, pick(length)))


def in_decode(wrong):
    """`wrong` in steps of one token."""
    return lambda q, k, v, length: wrong(q, k, v, length) if q.shape[1] == 1 else masked(q, k, v, length)


def blocks(q, k, v, length):
    """Whole blocks of 16 rows are read, and nothing is masked."""
    return masked(q, k, v, -(-length // 16) * 16, causal=False)


STRANGERS = {
    "unwritten_slots_read": [
        lambda q, k, v, length: masked(q, k, v, length, end=None, causal=False, zeroed=False),
        lambda q, k, v, length: masked(q, k, v, np.full_like(length, k.shape[1])),  # at the end of the buffer
        in_decode(blocks),
        in_decode(lambda q, k, v, length: masked(q, k, v, length + 1)),
    ],
    "one_length_for_all": [
        same(max),
        same(min),
        same(lambda length: length[0]),
        lambda q, k, v, length: masked(q, k[:, : length[0]], v[:, : length[0]], length),
    ],
    "context_length_before_step": [
        lambda q, k, v, length: masked(q, k, v, length, end=-q.shape[1]),
        lambda q, k, v, length: np.nan_to_num(masked(q, k, v, length - q.shape[1])),
    ],
    "newest_row_not_read": [lambda q, k, v, length: masked(q, k, v, length, end=-1)],
    "mask_top_left": [lambda q, k, v, length: masked(q, k, v, np.full_like(length, q.shape[1]))],
    "mask_missing": [lambda q, k, v, length: masked(q, k, v, length, causal=False)],
}


@pytest.mark.parametrize(
    "dtype", ["float64", *(pytest.param(d, marks=pytest.mark.dev) for d in ("float32", "float16"))]
)
@pytest.mark.parametrize(
    ("id", "number"), [(id, number) for id, functions in STRANGERS.items() for number in range(len(functions))]
)
def test_wrong_code_is_named(id, number, dtype):
    with np.errstate(all="ignore"):
        assert diagnosis(STRANGERS[id][number], dtype=dtype) == [id]


def test_a_weight_of_zero_times_nan():
    """Right where the buffer is made of zeros; and named as what it is where it is not."""

    def weighted(q, k, v, length):
        return masked(q, k, v, length, zeroed=False)

    testing.assert_attention(weighted, kv_heads=2, buffer=64, nan=False)
    assert diagnosis(weighted) == ["unwritten_slots_read"]
    with pytest.raises(OracleError, match=r"only where rows that were never written hold NaN: 0 x NaN is NaN"):
        testing.assert_attention(weighted, kv_heads=2, buffer=64)


def readings():
    """The first reading of every mistake that needs buffers; with the extra `dev`, all of them and those of a whole
    buffer."""
    for id, classes in IN_BUFFERS.items():
        for cls in classes:
            late = [] if cls is classes[0] else [pytest.mark.dev]
            yield pytest.param(BANK[id], cls, id=f"{id}-{cls.__name__}", marks=late)
    for m in BANK.values():
        for cls in m.attention_variants() if m.whole else []:
            whole = of_whole_buffer(cls)
            yield pytest.param(m, whole, id=f"{m.id}-{whole.__name__}", marks=pytest.mark.dev)


@pytest.mark.parametrize(("mistake", "cls"), [*readings()])
def test_every_reading(mistake, cls, capsys, monkeypatch):
    """Each is caught and has its name; and the command in the text shows the same failure."""
    monkeypatch.setenv("KVSIM_LANG", "en")

    def wrong(q, k, v, length, window=None):
        return attend(cls.attention_only(None), Inputs(q, k, v, length), window)

    with pytest.raises(OracleError) as caught:
        testing.assert_attention(wrong, kv_heads=2, buffer=64, window=4 if mistake.window else None)
    named, path = caught.value.facts["diagnosis"], getattr(cls, "path", None)
    assert mistake.id in named
    # A decoded token that does not see itself is one mistake under several names.
    assert len(named) == 1 or isinstance(path, Path)
    (command,) = re.findall(r"^  reproduce: kvsim (.*)$", str(caught.value), re.MULTILINE)
    assert run(command.split()) == 0
    assert str(caught.value) in capsys.readouterr().out


@pytest.mark.parametrize("id", ["one_length_for_all", "newest_row_not_read"])
def test_explain_shows_what_needs_buffers(id, capsys):
    assert run(["explain", id]) == 0
    out = capsys.readouterr().out
    assert f"[{id}]" in out.split("\n\n")[-1]
    assert "--queries 3 --keys 7 --buffer 64" in out


def test_lengths_differ_and_each_sequence_is_the_longest_in_some_call():
    lengths = [list(choose_lengths(3, number, (1, 7))) for number in range(6)]
    assert {max(range(3), key=one.__getitem__) for one in lengths} == {0, 1, 2}
    assert all(max(one) == 7 and len(set(one)) > 1 for one in lengths)
    assert list(choose_lengths(2, 0, (5, 5))) == [5, 5]  # not fewer than the queries


def test_what_rows_hold_that_were_never_written():
    rows = []

    def looks(q, k, v, length):
        rows.extend(x[i, n:] for x in (k, v) for i, n in enumerate(length))
        return masked(q, k, v, length)

    testing.assert_attention(looks, kv_heads=2, buffer=12)
    blank = [bool(np.isnan(x).any()) for x in rows]
    assert all(np.isnan(x).all() == one for x, one in zip(rows, blank, strict=True) if x.size)
    assert sum(blank) == 3 * 4  # of k and v of two sequences in three calls
    finite = np.concatenate([x.ravel() for x, one in zip(rows, blank, strict=True) if not one])
    assert np.abs(finite).min() >= JUNK
    assert finite.min() < 0 < finite.max()


def test_options_that_make_no_sense():
    for more, said in (
        ({"buffer": 7}, "buffer must be a whole number of at least 8, got 7"),
        ({"buffer": 16, "length": 20}, "buffer must be a whole number of at least 20, got 16"),
        ({"buffer": 10, "window": 4}, "buffer must be a whole number of at least 11, got 10"),
        ({"buffer": True}, "buffer must be a whole number"),
        ({"buffer": 16, "nan": 1}, "nan must be"),
        ({"buffer": 2**40}, "these sizes need"),
    ):
        with pytest.raises(UsageError, match=said):
            testing.assert_attention(pytest.fail, kv_heads=2, **more)
    with pytest.raises(OracleError, match="cannot be called with 3 arguments, length=: "):
        testing.assert_attention(lambda q, k, v: q, kv_heads=2, buffer=8)
