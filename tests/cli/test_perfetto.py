"""`kvsim trace --perfetto`: the file holds the trace's counts, by one clock, as readers of trace events expect them."""

import gzip
import json
import math
import re
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

import kvsim
from kvsim.benchmark.timing import Mark, Pass, measure, place
from kvsim.cli import perfetto, run
from kvsim.cli.perfetto import Recording
from kvsim.costs.public.devices import find_device
from kvsim.costs.work.roofline import Limits
from kvsim.costs.work.slices import Slice, count_key_heads, run_on_device
from kvsim.schemas import read_schema
from kvsim.views.json.perfetto import _microseconds
from tests.models import demo

SCHEMA = json.loads(read_schema("perfetto"))
FIXTURES = Path(__file__).parent.parent / "fixtures"
TEXT = "中华人民"
CLOCKS = ["measured", "model:t4"]
ATTENTION = ["query", "key", "value", "scores", "softmax", "context", "output"]


@pytest.fixture(scope="module", params=CLOCKS)
def recorded(request, tmp_path_factory):
    """The clock, the file's JSON, and the trace that it tells of."""
    path = tmp_path_factory.mktemp("perfetto") / "run.json"
    assert run(["trace", TEXT, "--perfetto", str(path), "--clock", request.param]) == 0
    return request.param, json.loads(path.read_text(encoding="utf-8")), kvsim.trace(TEXT)


def of_kind(found, phase, kind=None):
    return [e for e in found["traceEvents"] if e["ph"] == phase and (kind is None or e["cat"] == kind)]


def sides(trace):
    """{process: the trace's side of each step}."""
    return {1: [step.no_cache for step in trace.steps], 2: [step.cached for step in trace.steps]}


def nanoseconds(event):
    """When a slice begins and ends, for a reader that keeps whole nanoseconds."""
    start = int(event["ts"] * 1000)
    return start, start + int(event["dur"] * 1000)


def check_nesting(slices):
    """Slices of one thread: each lies inside the one that is open, or after it."""
    spans = sorted((nanoseconds(e) for e in slices), key=lambda span: (span[0], -span[1]))
    open_until = []
    for start, stop in spans:
        while open_until and open_until[-1] <= start:
            open_until.pop()
        assert not open_until or stop <= open_until[-1], f"{start}-{stop} ends after {open_until[-1]}"
        open_until.append(stop)


def test_the_schema_and_the_order_of_entries(recorded):
    _, found, _ = recorded
    jsonschema.validate(found, SCHEMA)
    assert list(found) == ["traceEvents", "otherData", "schema", "kvsim"]  # readers stop at an unknown entry


def test_the_names(recorded):
    _, found, _ = recorded
    names = [(e["name"], e["pid"], e.get("tid"), e["args"]) for e in of_kind(found, "M")]
    assert ("process_name", 1, None, {"name": "no cache"}) in names
    assert ("process_name", 2, None, {"name": "with cache dynamic"}) in names
    for pid in (1, 2):
        threads = [args["name"] for name, p, _, args in names if name == "thread_name" and p == pid]
        assert threads == ["outside the layers", "layer 0", "layer 1"]


def test_every_step_has_its_slices(recorded):
    _, found, trace = recorded
    for pid in (1, 2):
        for step in trace.steps:
            here = [e for e in of_kind(found, "X", "work") if (e["pid"], e["args"]["step"]) == (pid, step.number)]
            assert [e["name"] for e in here if e["tid"] == 10] == ["embedding", "head"]
            for layer in (0, 1):
                assert [e["name"] for e in here if e["tid"] == 11 + layer] == [*ATTENTION, "feed-forward"]
            assert {e["args"]["token"] for e in here} == {step.fed[0].text}


def test_macs_are_those_of_the_trace_and_bytes_those_of_the_shapes(recorded):
    _, found, trace = recorded
    shape = re.compile(r"(?:(\d+)×)?\[(\d+),(\d+)\](?:·\[(\d+),(\d+)\])?")
    for pid, steps in sides(trace).items():
        for number, side in enumerate(steps, start=1):
            here = [e for e in of_kind(found, "X", "work") if (e["pid"], e["args"]["step"]) == (pid, number)]
            assert sum(e["args"]["macs"] for e in here) == side.counts.macs > 0
            for e in here:
                macs = numbers = 0
                for groups in shape.findall(e["args"]["shape"]):
                    b, m, k, again, n = (int(x or 1) for x in groups)
                    macs += b * m * k * n if groups[3] else 0
                    assert not groups[3] or again == k
                    keys = 2 if e["name"] in ("scores", "context") else b  # the demo model has 4 heads, 2 of keys
                    numbers += b * m * k + keys * k * n + b * m * n if groups[3] else 2 * b * m * k
                assert (e["args"]["macs"], e["args"]["bytes"]) == (macs, 4 * numbers)


def test_slices_nest_and_follow_one_another(recorded):
    _, found, _ = recorded
    threads = defaultdict(list)
    for e in of_kind(found, "X"):
        threads[e["pid"], e["tid"]].append(e)
    assert sorted(threads) == [(pid, tid) for pid in (1, 2) for tid in (10, 11, 12)]
    for slices in threads.values():
        check_nesting(slices)
    for pid in (1, 2):
        steps = [nanoseconds(e) for e in of_kind(found, "X", "step") if e["pid"] == pid]
        assert steps[0][0] == 0
        assert all(one[1] == other[0] and one[0] < one[1] for one, other in pairwise(steps))
        work = [(e["args"]["step"], *nanoseconds(e)) for e in of_kind(found, "X", "work") if e["pid"] == pid]
        assert all(one[2] <= other[1] for one, other in pairwise(work)), "the run does one thing at a time"
        assert all(steps[step - 1][0] <= start <= stop <= steps[step - 1][1] for step, start, stop in work)


def test_the_search_for_overlaps_finds_them():
    with pytest.raises(AssertionError, match="ends after"):
        check_nesting([{"ts": 0.0, "dur": 2.0}, {"ts": 1.0, "dur": 1.5}])
    check_nesting([{"ts": 0.0, "dur": 2.0}, {"ts": 1.0, "dur": 1.0}, {"ts": 2.0, "dur": 0.0}, {"ts": 2.0, "dur": 1.0}])


def test_counters_are_those_of_the_trace(recorded):
    _, found, trace = recorded
    for pid, steps in sides(trace).items():
        ends = [(int(e["ts"] * 1000), nanoseconds(e)[1]) for e in of_kind(found, "X", "step") if e["pid"] == pid]
        for name, values, end in (
            ("score_cells", [side.counts.score_cells for side in steps], 0),
            ("kv_bytes", [side.kv_bytes for side in steps], 1),
        ):
            counters = [e for e in of_kind(found, "C") if (e["pid"], e["name"]) == (pid, name)]
            assert [e["args"]["value"] for e in counters] == values
            assert [int(e["ts"] * 1000) for e in counters] == [span[end] for span in ends]


def test_the_file_has_one_clock(recorded):
    clock, found, _ = recorded
    other = found["otherData"]
    assert {e["args"]["clock"] for e in of_kind(found, "X")} == {clock} == {other["clock"]}
    assert ("measured in this run" if clock == "measured" else "FLOPs / peak") in other["time"]
    for e in of_kind(found, "X", "work"):
        start, stop = nanoseconds(e)
        assert stop - start == math.ceil(round(e["args"]["seconds"] * 1e9, 6)) > 0
        assert ("bound" in e["args"]) == (clock != "measured")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "otherData": {**other, "clock": CLOCKS[clock == CLOCKS[0]]}}, SCHEMA)


def test_the_model_clock_is_the_roofline_of_each_slice(tmp_path, capsys):
    path, device = tmp_path / "run.json", find_device("t4")
    assert run(["trace", TEXT, "--perfetto", str(path), "--clock", "model:T4", "--feed", "prefill"]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["otherData"]["peak"], found["otherData"]["bandwidth"]) == (device.peaks["float32"], device.bandwidth)
    for pid in (1, 2):
        now = 0
        for e in (e for e in of_kind(found, "X", "work") if e["pid"] == pid):
            times = (
                Fraction(2 * e["args"]["macs"], device.peaks["float32"]),
                Fraction(e["args"]["bytes"], device.bandwidth),
            )
            assert e["args"]["seconds"] == float(max(times))
            assert e["args"]["bound"] == ("compute" if times[0] > times[1] else "memory")
            assert nanoseconds(e) == (now, now + math.ceil(max(times) * 10**9))
            now = nanoseconds(e)[1]


def test_the_longer_of_two_limits_binds():
    limits, g = Limits(10, 100), 10**9
    slices = [Slice("a", 0, "", macs, moved, ()) for macs, moved in ((50, 1), (1, 1000), (5, 100), (0, 0))]
    (step,) = run_on_device([slices], limits)
    assert [(one.start, one.stop, one.bound) for one in step.slices] == [
        (0, 10 * g, "compute"), (10 * g, 20 * g, "memory"), (20 * g, 21 * g, "memory"), (21 * g, 21 * g, "memory"),
    ]  # fmt: skip
    assert (step.start, step.stop) == (0, 21 * g)
    assert [one.seconds for one in step.slices] == [10, 10, 1, 0]


def test_a_packed_file_is_the_same_bytes_every_time(tmp_path, capsys):
    argv = ["trace", TEXT, "--clock", "model:a10", "--perfetto"]
    files = [tmp_path / "one.json.gz", tmp_path / "two.json.gz", tmp_path / "plain.json"]
    assert [run([*argv, str(file)]) for file in files] == [0, 0, 0]
    one, two, plain = (file.read_bytes() for file in files)
    assert one == two
    assert one[3:8] == bytes(5), "flags and time of the header"
    assert gzip.decompress(one) == plain
    assert len(one) < len(plain) / 8


FAMILIES = ["gpt2", "deepseek_v2", "mixtral", "gemma2", "opt", "falcon_mqa", "mistral_sw4"]


@pytest.mark.parametrize(
    ("family", "cache"), [*((family, "dynamic") for family in FAMILIES), ("falcon_mqa", "paged:4")]
)
def test_every_family_can_be_measured(family, cache, tmp_path):
    """What a pass marks is what its ledger holds, and the copy computes what the model does."""
    recording = Recording(tmp_path / "run.json", None, "float32")
    model = recording.load(str(FIXTURES / family), None, None)
    trace = kvsim.trace([1, 2, 3, 4, 5], model, 2, "chunk:2", cache=cache)
    recording.write(trace)
    found = json.loads(recording.path.read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    for pid, steps in sides(trace).items():
        macs = sum(e["args"]["macs"] for e in of_kind(found, "X", "work") if e["pid"] == pid)
        assert macs == sum(side.counts.macs for side in steps)
    assert trace == kvsim.trace([1, 2, 3, 4, 5], str(FIXTURES / family), 2, "chunk:2", cache=cache)


def make_pass(start, *marks, stop):
    made = Pass(start)
    made.stop, made.marks = stop, [Mark(*mark) for mark in marks]
    return made


def test_the_clock_stands_still_between_passes():
    """Two passes of 10 s and 20 s, 70 s apart, are a run of 30 s; a slice lasts from its first mark to its last."""
    g = 10**9
    one, both = Slice("query", 0, "", 1, 1, ("a",)), Slice("feed-forward", 0, "", 1, 1, ("b", "c"))
    first = make_pass(100 * g, ("a", 101 * g, 102 * g), ("b", 103 * g, 104 * g), ("c", 106 * g, 109 * g), stop=110 * g)
    second = make_pass(180 * g, ("a", 185 * g, 190 * g), stop=200 * g)
    steps = place([first, second], [[one, both], [one]])
    assert [(step.start, step.stop) for step in steps] == [(0, 10 * g), (10 * g, 30 * g)]
    assert [(s.start // g, s.stop // g, s.seconds) for step in steps for s in step.slices] == [
        (1, 2, 1), (3, 9, 6), (15, 20, 5),
    ]  # fmt: skip
    for wrong in ([[one], [one]], [[both, one], [one]], [[one, both, one], [one]]):
        with pytest.raises(ValueError, match="the pass marked"):
            place([first, second], wrong)


def test_a_run_that_is_not_measured_is_left_alone():
    model = demo()
    ops = model.ops
    copy, stopwatch = measure(model)
    copy(model.tokenizer.encode(TEXT))
    assert len(stopwatch.passes) == 1
    marks = len(stopwatch.passes[0].marks)
    assert marks == 1 + 2 * 10 + 1  # embedding; 9 products and a softmax in each layer; head
    model(model.tokenizer.encode(TEXT))
    assert len(stopwatch.passes) == 1
    assert model.ops is ops
    assert not hasattr(type(ops), "stopwatch")
    assert copy.weights is model.weights


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--clock", "measured"], 2, "--clock goes with --perfetto"),
        (["--perfetto", "{}/x.json", "--clock", "model:abacus"], 2, "no device 'abacus' in the catalogue"),
        (["--perfetto", "{}/x.json", "--clock", "model:"], 2, "no device '' in the catalogue"),
        (["--perfetto", "{}/x.json", "--clock", "sun"], 2, "--clock takes measured, or model:DEVICE"),
        (["--perfetto", "{}/x.json", "--clock", "t4"], 2, "got 't4'"),
        (["--perfetto", "{}/x.json", "--clock", "model:t4", "--dtype", "bfloat16"], 2, "has no peak for 'bfloat16'"),
        (["--perfetto", "{}"], 4, "Is a directory"),
        (["--perfetto", "{}/none/x.json"], 4, "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(argv, code, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kvsim.comparisons.trace.trace", lambda *_, **__: pytest.fail("it ran"))
    assert run(["trace", TEXT, "--lang", "en", *(word.format(tmp_path) for word in argv)]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_timeline_has_a_limit(tmp_path, capsys, monkeypatch):
    """It is said after the first step, not after all; and what was printed is not lost where only the end shows it."""
    path = tmp_path / "run.json"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(perfetto, "MOST_SLICES", 2 * 7 * (2 + 8 * 2) - 1)
    argv = ["trace", TEXT, "--lang", "en", "--perfetto", str(path), "--clock", "model:t4"]
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "kvsim: error: the timeline would have 252 slices, more than 251: use a smaller -n or a shorter text, or"
        " --feed prefill\n"
    )
    monkeypatch.setattr(Recording, "check_steps", lambda *_: None)
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert "140 │" in out
    assert "252 slices" in err
    assert path.read_text(encoding="utf-8") == "old"
    monkeypatch.undo()
    assert run(argv) == 0
    assert path.read_text(encoding="utf-8").startswith('{"traceEvents": [\n')


def test_microseconds_are_read_back_as_the_nanoseconds_that_were_written():
    numbers = [*range(3000), *(10**6 * n + n for n in range(1000)), 86_400 * 10**9 + 1]
    assert [int(_microseconds(n) * 1000) for n in numbers] == numbers
    assert any(int(n / 1000 * 1000) != n for n in numbers), "what the function is for"


def test_keys_have_the_heads_that_attention_multiplies_by():
    assert count_key_heads(demo().config) == 2
