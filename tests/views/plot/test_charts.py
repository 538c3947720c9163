"""Charts: what the figure's artists hold equals the numbers of --json; files are valid, equal and readable."""

import json
import statistics
import xml.etree.ElementTree as ET

import pytest

from kvsim.cli import run

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from kvsim.benchmark import limits
from kvsim.i18n.language import words
from kvsim.views.plot import chart

pytestmark = pytest.mark.dev
TEXT = "床前明月光，疑是地上霜"


@pytest.fixture
def plot(monkeypatch, tmp_path, capsys):
    """A function that runs a command with --json and --plot: its JSON and its figure, which is not saved."""
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: found.append(figure))

    def plot(*argv):
        assert run([*argv, "--json", "--plot", str(tmp_path / "a.svg"), "--lang", "en"]) == 0
        return json.loads(capsys.readouterr().out), found.pop()

    return plot


def lines_of(axes):
    """{label: [(x, y), ...]}, without lines that have no label."""
    return {
        line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_bench(plot, monkeypatch):
    monkeypatch.setattr(limits, "SHAPES", ((64, 64), (128, 32)))
    found, figure = plot("bench", "-n", "12", "--points", "3", "--repeats", "3")
    (axes,) = figure.axes
    for way, label in (("cached", "cached"), ("uncached", "no cache")):
        expected = [(p["context"], 1e3 * statistics.median(p[way])) for p in found["points"]]
        assert lines_of(axes)[label] == expected
    assert len(axes.collections) == 2  # the quartiles
    corners = axes.collections[0].get_paths()[0].vertices
    times = found["points"][0]["cached"]
    first = {round(y, 9) for x, y in corners if x == found["points"][0]["context"]}
    assert first == {round(1e3 * statistics.quantiles(times, n=4)[i], 9) for i in (0, 2)}


def test_growth(plot):
    found, figure = plot("cost", "gpt2", "--prompt", "100", "--new", "20", "--convention", "causal")
    (axes,) = figure.axes
    points = found["growth"]["points"]
    assert lines_of(axes) == {
        "cached": [(p["context"], p["cached"]) for p in points],
        "no cache": [(p["context"], p["uncached"]) for p in points],
    }
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("overhead", ["0", "0.01"])
def test_roofline(plot, overhead):
    argv = ["cost", "llama-2-7b-hf", "--prompt", "300", "--new", "5", "--convention", "last", "--dtype", "float16"]
    found, figure = plot(*argv, "--device", "t4", "--overhead", overhead)
    _, axes = figure.axes
    roof = found["roofline"]
    drawn = lines_of(axes)
    assert len(drawn) == 4
    for run_key, label in (("with_cache", "cached"), ("without_cache", "no cache")):
        for phase in ("prefill", "decode"):
            ((x, y),) = drawn[f"{phase}, {label}"]
            numbers = found[run_key][phase]["last"]
            assert x == numbers["flops_per_byte"]
            assert y == pytest.approx(numbers["flops"] / roof[run_key]["last"][phase]["seconds"], rel=1e-14)
            ceiling = min(roof["peak_flops_per_second"], x * roof["bandwidth_bytes_per_second"])
            assert y < ceiling if overhead != "0" else y <= ceiling * (1 + 1e-9)
    (line,) = (line for line in axes.get_lines() if line.get_label().startswith("_"))
    assert line.get_xdata()[1] == roof["ridge_flops_per_byte"]
    assert list(line.get_ydata()[1:]) == [roof["peak_flops_per_second"]] * 2
    assert line.get_ydata()[0] == line.get_xdata()[0] * roof["bandwidth_bytes_per_second"]


def test_a_single_new_token_has_no_decode_step_to_place(plot):
    _, figure = plot("cost", "gpt2", "--new", "1", "--device", "a10")
    assert set(lines_of(figure.axes[1])) == {"prefill, cached", "prefill, no cache"}


@pytest.mark.parametrize(
    "argv", [["gemma-3-27b-pt"], ["llama-2-7b-hf", "--context", "5,4096", "--cache-dtype", "int8"]]
)
def test_memory(plot, argv):
    found, figure = plot("memory", *argv)
    (axes,) = figure.axes
    drawn, weights = {}, found["weight_bytes"]
    for line in axes.get_lines():
        marked = zip(line.get_xdata(), line.get_ydata(), line.get_markevery(), strict=True)
        drawn[line.get_label()] = [(x, y) for x, y, shown in marked if shown]
    contexts = found["contexts"]
    expected = {
        "weights in bfloat16": [(c["context"], weights) for c in contexts],
        f"KV cache in {found['cache_dtype']}": [(c["context"], c["logical"]) for c in contexts],
        "weights and KV cache": [(c["context"], weights + c["logical"]) for c in contexts],
    }
    if contexts[0]["everywhere"] is not None:
        expected["full context in every layer"] = [(c["context"], c["everywhere"]) for c in contexts]
    assert drawn == expected


def test_a_curve_has_the_corner_of_a_full_window():
    from kvsim.costs.bytes.curve import choose_curve
    from kvsim.costs.bytes.memory import measure_memory

    memory = measure_memory("gemma-3-27b-pt", [100, 10_000])
    windows = {rows.window for rows in memory.rows} - {None}
    chosen = choose_curve(memory)
    assert {100, 10_000, *(window - 1 for window in windows)} <= set(chosen)
    assert (chosen[0], chosen[-1]) == (100, 10_000)
    assert len(choose_curve(measure_memory("gpt2", [1, 10**18]))) < 200


def test_compare(plot):
    found, figure = plot("compare", TEXT, "--cache", "window:4", "--cache", "paged:4", "--cache", "int8", "-n", "3")
    left, right = figure.axes
    runs = [found["reference"], *found["policies"]]
    assert [bar.get_width() for bar in left.patches] == [run["logical_bytes"] for run in runs]
    divergences = [policy["all"]["mean_divergence"] for policy in found["policies"]]
    assert [bar.get_width() for bar in right.patches] == [0, *divergences]
    assert max(divergences) > 0
    assert [label.get_text() for label in left.get_yticklabels()] == [run["cache"] for run in runs]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["reference", "lossy", "lossless"]


# Files


def save(tmp_path, ending, *more):
    file = tmp_path / f"a{ending}"
    assert run(["cost", "gpt2", "--prompt", "9", "--new", "2", "--plot", str(file), *more]) == 0
    return file.read_bytes()


@pytest.mark.parametrize(("ending", "start", "end"), [
    (".svg", b"<?xml", b"</svg>\n"), (".PNG", b"\x89PNG\r\n", b"IEND\xaeB`\x82"), (".pdf", b"%PDF-", b"%%EOF\n"),
])  # fmt: skip
def test_files_are_whole_and_equal(ending, start, end, tmp_path, capsys):
    first = save(tmp_path, ending)
    assert first.startswith(start)
    assert first.endswith(end)
    assert save(tmp_path, ending) == first
    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_labels_are_chinese_where_a_font_has_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chart, "find_chinese_font", lambda: None)
    drawn = texts(save(tmp_path, ".svg", "--lang", "zh"))
    assert {"cached", "no cache", "context, tokens"} <= set(drawn)
    assert capsys.readouterr().err == "注意：没有安装含中文的字体：图中的文字用英文\n"
    monkeypatch.setattr(chart, "find_chinese_font", lambda: "DejaVu Sans")  # an SVG names the font, no more
    drawn = texts(save(tmp_path, ".svg", "--lang", "zh"))
    assert {"有缓存", "无缓存", "上下文（词元）"} <= set(drawn)
    assert capsys.readouterr().err == ""


def test_characters_that_no_font_has_are_noted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chart, "find_chinese_font", lambda: "DejaVu Sans")
    save(tmp_path, ".png", "--lang", "zh")
    err = capsys.readouterr().err
    assert err.startswith("注意：已安装的字体都没有这些字符，图中以方框代替：U+4E0A ")
    assert err.count("\n") == 1


def test_the_font_is_one_that_matplotlib_knows(monkeypatch):
    from matplotlib import font_manager

    entries = [font_manager.FontEntry(name=name) for name in ("Noto Serif CJK SC", "DejaVu Sans", "WenQuanYi Zen Hei")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    chart.find_chinese_font.cache_clear()
    assert chart.find_chinese_font() == "WenQuanYi Zen Hei"
    chart.find_chinese_font.cache_clear()


def test_names_and_the_users_settings_change_no_label(tmp_path):
    """A name is neither a formula nor XML; a matplotlibrc does not apply."""
    import matplotlib

    def draw(say):
        figure = chart.make_figure()
        figure.add_subplot().set_title(chart.name("a$b$ <&> \\frac{\n\x00" + "x" * 99))
        return figure

    with matplotlib.rc_context({"font.size": 40.0, "svg.fonttype": "path", "text.usetex": True}):
        before = matplotlib.rcParams["font.size"]
        svg = chart.render(draw, ".svg", words("en")).data
        assert matplotlib.rcParams["font.size"] == before
    title = max(texts(svg), key=len)
    assert title.startswith("a$b$ <&> \\frac{↵\\x00xxx")
    assert len(title) <= 48
    assert svg == chart.render(draw, ".svg", words("en")).data


@pytest.mark.parametrize(("value", "shown"), [
    (0, "0"), (1, "1"), (999, "999"), (1000, "1 k"), (1.5e9, "1.5 G"), (13.2e12, "13.2 T"), (1e30, "1.0e+06 Y"),
])  # fmt: skip
def test_prefixes(value, shown):
    assert chart.decimal(value) == shown
    assert chart.binary(3 * 2**30) == "3 GiB"
