"""`kvsim bench`: counts, sums, output and errors. No test asserts a time."""

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest

import kvsim
from kvsim.arrays.host import matmul
from kvsim.benchmark import decoding, limits, peers, subjects
from kvsim.benchmark.decoding import choose_contexts
from kvsim.benchmark.record import Benchmark, Point, Prefill, interpolate, totals
from kvsim.cli import run
from kvsim.errors import KvsimError, UsageError
from kvsim.loading.places import BUNDLED
from kvsim.loading.random_weights import random_weights
from kvsim.model import Model
from kvsim.views.json.bench import to_dict
from kvsim.weights import list_arrays
from tests.models import PRIMES, demo


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small matrices: the measured limits of the machine are not tested."""
    monkeypatch.setattr(limits, "SHAPES", ((64, 64), (128, 32)))


def make_record(points, **fields):
    """A record with these points, and small numbers in its other fields."""
    return Benchmark(
        **{
            "model": "m", "parameters": 1, "dtype": "float32", "backend": "numpy", "attention": "blocked",
            "machine": "x1", "read_bytes_per_second": 1.0, "flops_per_second": 1.0, "peer": None, "peak_memory": None,
            "first": 1, "last": 9, "prefill": Prefill(1, [0.1], 2), "points": points, **fields,
        }
    )  # fmt: skip


def test_contexts_go_from_the_first_step_to_the_last():
    assert choose_contexts(16, 1000, 6) == [16, 215, 415, 615, 815, 1015]
    assert choose_contexts(5, 1, 9) == [5]
    assert choose_contexts(5, 3, 9) == [5, 6, 7]
    assert choose_contexts(5, 100, 1) == [104]


def test_sums_interpolate_linearly():
    assert interpolate([(10, 2.0)], 10, 12) == 6.0
    line = [(c, 3.0 * c + 1.0) for c in (4, 9, 20)]
    assert interpolate(line, 4, 20) == pytest.approx(sum(3.0 * c + 1.0 for c in range(4, 21)))
    points = [Point(4, [3.0, 1.0, 2.0]), Point(6, [4.0])]
    assert totals(points, "cached", 4, 6) == pytest.approx(2.0 + 3.0 + 4.0)
    assert totals(points, "cached", 2, 9) == pytest.approx(2 * 2.0 + 2.0 + 3.0 + 4.0 + 3 * 4.0)
    assert totals(points[1:], "cached", 1, 10) == pytest.approx(40.0)


def test_every_step_may_be_timed(capsys):
    assert run(["bench", "-n", "6", "--prompt", "3", "--points", "6", "--repeats", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["context"] for point in found["points"]] == [3, 4, 5, 6, 7, 8]
    assert found["seconds_are"] == "sums of every step"
    medians = [sum(point["cached"]) / 2 for point in found["points"]]
    assert found["seconds"]["cached"] == pytest.approx(sum(medians))
    assert run(["bench", "-n", "6", "--prompt", "3", "--points", "5", "--repeats", "2", "--no-uncached"]) == 0
    assert "6 tokens, interpolated between these contexts" in capsys.readouterr().out
    assert run(["bench", "-n", "6", "--prompt", "3", "--points", "6", "--repeats", "2", "--no-uncached"]) == 0
    assert "6 tokens, every step timed" in capsys.readouterr().out


def test_bytes_read_by_a_step():
    """The demo model: every weight matrix, the tied token table once, as the head; keys and values of 7 tokens."""
    model = demo()
    (point,) = decoding.time_steps(model, [6], 2)
    distinct = {id(x): x for x in list_arrays(model.weights)}.values()  # the head is the token table
    weights = sum(x.size for x in distinct if x.ndim == 2)
    assert point.read_bytes == 4 * weights + model.new_cache("none").logical_bytes + 7 * 512
    counted = kvsim.count("demo", prompt=6, new=2).step(2)
    assert point.cached_flops == counted.flops
    assert (len(point.cached), len(point.uncached), point.peer) == (2, 2, [])
    with model.count() as ledger:
        model(list(range(5, 12)), logits="last")
    assert point.uncached_flops == ledger.flops


def test_every_repeat_is_at_the_same_context():
    model, seen = demo(), []
    call = model.__class__.__call__

    def watched(self, ids, cache=None, **options):
        seen.append((len(ids), None if cache is None else cache.seen))
        return call(self, ids, cache, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.__class__, "__call__", watched)
        list(decoding.time_steps(model, [6, 9], 3))
    for context in (6, 9):
        assert seen.count((1, context)) == 4  # warm-up and three repeats
        assert seen.count((context + 1, None)) == 4


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_printed_output(lang, capsys):
    argv = ["bench", "-n", "40", "--points", "3", "--repeats", "2", "--lang", lang]
    assert run(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "demo" in lines[0]
    assert "171,712" in lines[0]
    assert [line.split()[0] for line in lines[5:8]] == ["16", "35", "55"]


def test_json(capsys):
    assert run(["bench", "-n", "9", "--points", "2", "--repeats", "1", "--json", "--no-uncached"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 171_712
    assert [point["context"] for point in found["points"]] == [16, 24]
    assert found["points"][0]["uncached"] == []
    assert set(found["seconds"]) == {"cached"}
    assert found["partial"] is False


def test_sums_of_an_interrupted_run_end_at_its_last_point():
    points = [Point(1, [1.0]), Point(4, [1.0])]
    assert to_dict(make_record(points, partial=True))["seconds"] == {"cached": 4.0}
    assert to_dict(make_record(points))["seconds"] == {"cached": 9.0}
    assert to_dict(make_record([], partial=True))["seconds"] == {}


def test_writing_a_plot_through_a_link_and_a_pipe(tmp_path):
    from kvsim.files.writing import write_beside

    (tmp_path / "link.svg").symlink_to(tmp_path / "target.svg")
    write_beside(tmp_path / "link.svg", b"drawn")
    assert (tmp_path / "link.svg").is_symlink()
    assert (tmp_path / "target.svg").read_text() == "drawn"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_beside(tmp_path / "pipe", b"drawn")
    assert os.read(reader, 99) == b"drawn"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_interrupted_in_the_middle(capsys, monkeypatch):
    steps = decoding.time_steps

    def cut(*arguments):
        for i, point in enumerate(steps(*arguments)):
            if i == 1:
                raise KeyboardInterrupt
            yield point

    monkeypatch.setattr(decoding, "time_steps", cut)
    assert run(["bench", "-n", "9", "--points", "3", "--repeats", "1", "--lang", "en"]) == 130
    out = capsys.readouterr().out
    assert "partial: interrupted" in out
    assert "1 tokens, every step timed" in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["-n", "0"], 2, "-n must be a whole number of at least 1, got 0"),
        (["--prompt", "0"], 2, "--prompt must be a whole number of at least 1"),
        (["--points", "0"], 2, "--points must be a whole number of at least 1"),
        (["--repeats", "0"], 2, "--repeats must be a whole number of at least 1"),
        (["-n", "5000"], 2, "has a context of 1024 tokens, asked for 5016"),
        (["--model", "abacus"], 2, "no model 'abacus'"),
        (["--model", "t5-small"], 2, "does not support models with an encoder, such as t5-small"),
        (["--model", "llama-3.1-405b", "-n", "5"], 2, "B of memory"),
        (["--peer", "abacus"], 2, "unknown peer 'abacus'"),
        (["--backend", "meta"], 2, "there is nothing to time"),
        (["--dtype", "int8"], 2, "unknown dtype"),
        (["--plot", "all.gif"], 2, "--plot takes a file that ends in .svg, .png or .pdf, got 'all.gif'"),
    ],
)
def test_bad_input(argv, code, message, capsys):
    assert run(["bench", "--lang", "en", *argv]) == code
    found = capsys.readouterr()
    assert message in found.err
    assert found.out == ""
    assert found.err.count("\n") == 1


@pytest.mark.dev
@pytest.mark.parametrize("peer", ["transformers", "torch"])
def test_peers_have_the_same_weights(peer, capsys, monkeypatch):
    assert run(["bench", "-n", "9", "--points", "2", "--repeats", "2", "--peer", peer, "--lang", "en"]) == 0
    assert f"{peer}, same weights, logits checked" in capsys.readouterr().out


@pytest.mark.dev
def test_a_peer_that_disagrees_is_not_timed(capsys, monkeypatch):
    logits = peers.TransformersPeer.logits

    def wrong(self, ids):
        made = np.array(logits(self, ids))
        made[7:] += 0.1
        return made

    monkeypatch.setattr(peers.TransformersPeer, "logits", wrong)
    assert run(["bench", "-n", "9", "--peer", "transformers", "--lang", "en"]) == 1
    found = capsys.readouterr()
    assert "differ from position 7 on" in found.err
    assert found.out == ""


@pytest.mark.dev
def test_random_weights_of_a_public_shape_reach_the_peer(monkeypatch, tmp_path):
    """A small copy of gpt2's shape, whose checkpoint stores query, key and value as one matrix."""
    from kvsim.costs.public.models import read_catalogue

    small = {**read_catalogue()["gpt2"]["config"], "n_embd": 24, "n_head": 3, "n_layer": 2, "vocab_size": 97}
    monkeypatch.setitem(read_catalogue(), "tiny", {"config": small, "source": "https://"})
    subject = subjects.open_subject("tiny", "numpy", None, "float32", tmp_path)
    assert subject.name == "tiny"
    assert subject.attention == "blocked"
    peer = peers.open_peer("transformers", subject)
    (point,) = decoding.time_steps(subject, [9], 1, True, peer)
    assert len(point.peer) == 1


def test_a_peer_checks_every_position():
    class Other:
        def logits(self, ids):
            made = demo()(ids).copy()
            made[3, 5] += 10.0
            return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "TorchPeer", lambda model: Other())
        with pytest.raises(KvsimError, match="differ from position 3 on"):
            peers.open_peer("torch", demo())
    with pytest.raises(UsageError, match="unknown peer"):
        peers.open_peer("abacus", demo())


def test_memory_is_checked_before_allocating(monkeypatch):
    monkeypatch.setattr(subjects, "free_memory", lambda: 100_000_000)
    with pytest.raises(UsageError, match=r"gpt2 needs about 622,199,040 B of memory, 100,000,000 B are free"):
        subjects.open_subject("gpt2", "numpy", None, "float32")
    with pytest.raises(UsageError, match=r"gpt2 needs about 1,119,958,272 B"):
        subjects.open_subject("gpt2", "numpy", None, "float32", copies=2)
    monkeypatch.setattr(subjects, "free_memory", lambda: 100_000)
    for name in ("demo", str(BUNDLED["demo"])):
        with pytest.raises(UsageError, match="B of memory, 100,000 B are free"):
            subjects.open_subject(name, "numpy", None, "float32")


def test_limits_are_positive_and_memory_is_known():
    backend = demo().ops.backend
    assert all(limit > 0 for limit in limits.measure_limits(backend, "float32", 2))
    assert limits.peak_memory() > 10_000_000
    assert limits.free_memory() is None or limits.free_memory() > 0


# Products of few rows


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 65])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_of_few_rows_is_computed_transposed(rows, dtype):
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(rows, 33)).astype(dtype), generator.normal(size=(21, 33)).astype(dtype)
    got = matmul(x, w.T)
    assert got.flags.c_contiguous
    assert np.abs(got - np.matmul(x, w.T)).max() <= 33 * np.finfo(dtype).eps * 10
    assert np.array_equal(matmul(x, np.ascontiguousarray(w.T)), np.matmul(x, np.ascontiguousarray(w.T)))


def test_a_step_of_a_batch_has_one_product_per_linear_layer():
    config = replace(PRIMES, max_context=32)
    model = Model(config, random_weights(config), backend="numpy", dtype="float64")
    run = kvsim.generate(model, [[1, 2], [3], [4, 5, 6]], 4)[0]
    for step in run.steps[1:]:
        assert [e.m for e in step.events if e.site == "layers.1.down"] == [3]
        assert len([e for e in step.events if e.site == "layers.1.scores"]) == 3
