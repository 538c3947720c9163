"""The output of commands, byte for byte, in both languages. Measured differences are masked, because they depend on
BLAS and processor. To write the files again after a change: `KVSIM_GOLDEN=write pytest tests/views`; then read the
diff."""

import os
import re
from pathlib import Path

import pytest

from kvsim.cli import run

GOLDEN = Path(__file__).parent.parent / "golden"
MEASURED = re.compile(r"\b\d\.\de[-+]\d\d\b")

POEM = "床前明月光，疑是地上霜。举头望明月"

CASES = {
    "trace-zh": ["trace", "中华人民", "--lang", "zh"],
    "trace-en": ["trace", "中华人民", "--lang", "en"],
    "trace-en-ascii": ["trace", "The red", "--ascii", "-n", "5", "--show", "table,cells,shapes,sites,memory"],
    "prefill-zh": ["trace", "中华人民", "--feed", "prefill", "--lang", "zh"],
    "chunk-en": ["trace", "What is KV", "--feed", "chunk:4", "--lang", "en"],
    "useful-zh": ["trace", "中华人民", "--count", "useful", "--lang", "zh"],
    "rows-zh": ["trace", "中华人民", "--count", "rows", "--lang", "zh"],
    "macs-en": ["trace", "中华人民", "--count", "macs", "--lang", "en"],
    "flops-zh": ["trace", "中华人民", "--count", "flops", "--lang", "zh"],
    "cells-zh": ["trace", "中华人民", "--show", "cells", "--step", "4", "--lang", "zh"],
    "cells-en": ["trace", "中华人民", "--show", "cells", "--step", "4", "--lang", "en"],
    "cells-prefill-en": ["trace", "a b\nc", "--feed", "chunk:3", "--show", "cells", "--step", "2", "--lang", "en"],
    "cells-long-zh": ["trace", "中", "-n", "30", "--show", "cells", "--lang", "zh"],
    "shapes-zh": ["trace", "中华人民", "--show", "shapes", "--step", "4", "--lang", "zh"],
    "sites-zh": ["trace", "中华人民", "--show", "sites", "--lang", "zh"],
    "memory-none-en": ["trace", "中华人民", "--show", "memory", "--cache", "none", "--feed", "chunk:3", "--lang", "en"],
    "memory-zh": ["trace", "中华人民", "--show", "memory", "--cache", "static:64", "--lang", "zh"],
    "long-en": ["trace", "中", "-n", "60", "--rows", "9", "--show", "table,memory", "--lang", "en"],
    "caches-zh": ["caches", "--lang", "zh"],
    "caches-llama-en-ascii": ["caches", "--model", "llama-3.1-405b", "--dtype", "bfloat16", "--lang", "en", "--ascii"],
    "compare-zh": [
        "compare",
        POEM,
        "--cache",
        "none",
        "--cache",
        "static:64",
        "--cache",
        "window:4",
        "-n",
        "6",
        "--feed",
        "chunk:5",
        "--lang",
        "zh",
    ],
    "compare-en-ascii": ["compare", POEM, "--cache", "window:4", "-n", "2", "--lang", "en", "--ascii"],
    "chat-zh": ["chat", "--fork", "2:白日依山尽，", "--edit", "3:今天我们学习", "--lang", "zh"],
    "chat-en-ascii": ["chat", "A bird in the hand is worth", "Hello, \nworld", "-n", "30", "--lang", "en", "--ascii"],
    "chat-window-en": [
        "chat",
        "你好！",
        "今天",
        "--cache",
        "window:3",
        "-n",
        "3",
        "--edit",
        "1:你早！",
        "--lang",
        "en",
    ],
    "chat-exact-zh": ["chat", "你好！", "今天", "--backend", "exact", "-n", "2", "--separator", "\n", "--lang", "zh"],
    "memory-llama-en": ["memory", "llama-2-7b-hf", "--dtype", "float16", "--context", "4096,32768", "--lang", "en"],
    "memory-llama-zh": ["memory", "llama-2-7b-hf", "--dtype", "float16", "--context", "4096", "--lang", "zh"],
    "memory-gemma-en": ["memory", "gemma-3-27b-pt", "--lang", "en", "-v"],
    "memory-gemma-zh": ["memory", "gemma-3-27b-pt", "--context", "32768", "--batch", "8", "--lang", "zh", "-v"],
    "memory-deepseek-en": ["memory", "deepseek-v3", "--context", "32768", "--ascii", "--lang", "en"],
    "memory-deepseek-zh": ["memory", "deepseek-v3", "--context", "32768", "--context", "131072", "--lang", "zh"],
    "memory-whisper-en": ["memory", "whisper-tiny", "--source", "1500", "--block", "32", "--lang", "en"],
    "memory-t5-zh": ["memory", "t5-small", "--source", "512", "--context", "100", "--lang", "zh"],
    "memory-int4-en": ["memory", "gemma-2-9b", "--cache-dtype", "int4:zero", "--context", "8192", "--lang", "en"],
    "memory-int8-zh": ["memory", "llama-3.1-8b", "--cache-dtype", "int8", "--context", "4096", "--lang", "zh"],
    **{
        f"cost-{name}-{lang}": ["cost", *asked, "--lang", lang]
        for lang in ("en", "zh")
        for name, asked in {
            "llama": ["llama-2-7b-hf", "--prompt", "3969", "--device", "a10", "--plot"],
            "mixtral": ["mixtral-8x7b-v0.1", "--convention", "last", "--device", "h100", "--overhead", "0.01"],
            "deepseek": ["deepseek-v3", "--latent", "absorbed", "--convention", "causal", "--ascii", "--plot"],
            "whisper": [
                "whisper-large-v3",
                "--source",
                "1500",
                "--prompt",
                "4",
                "--new",
                "100",
                "--device",
                "t4",
                "--dtype",
                "float16",
            ],
            "none": ["gemma-3-1b-pt", "--cache", "none", "--new", "1", "--convention", "square"],
        }.items()
    },
    "plan-llama-en": ["plan", "llama-2-7b-hf", "--device", "a10", "--context", "4096", "--lang", "en"],
    "plan-llama-zh": ["plan", "llama-2-7b-hf", "--device", "a10", "--context", "4096", "--lang", "zh"],
    "plan-gemma-zh": [
        *("plan", "gemma-3-27b-pt", "--device", "a100-40gb", "--devices", "2", "--context", "32768"),
        *("--dtype", "int8", "--cache-dtype", "int8", "--utilization", "0.9", "--lang", "zh"),
    ],
    "plan-short-en-ascii": [
        *("plan", "llama-2-70b-hf", "--device", "h200", "--devices", "16", "--context", "10000000"),
        *("--lang", "en", "--ascii"),
    ],
    "plan-deepseek-en": [
        *("plan", "deepseek-v3", "--device", "h200", "--devices", "8", "--context", "32768", "--lang", "en")
    ],
    "plan-sweep-zh": [
        *(
            "plan",
            "gpt2",
            "mistral-7b-v0.1",
            "--sweep",
            "--device",
            "t4",
            "--device",
            "h200",
            "--context",
            "1024,32768",
        ),
        *("--batch", "16", "--dtype", "bfloat16", "--lang", "zh"),
    ],
    "float64-en": ["trace", "中华人民", "--dtype", "float64", "-n", "1", "--lang", "en"],
}


def masked(text: str) -> str:
    return MEASURED.sub("N", text)


@pytest.mark.parametrize("name", CASES)
def test_golden(name, capsys):
    assert run(CASES[name]) == 0
    got = masked(capsys.readouterr().out)
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("KVSIM_GOLDEN") == "write":
        file.write_text(got, encoding="utf-8")
    assert got == file.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("feed", ["prefill", "token", "chunk:2"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_halves_of_the_cells_line_up(feed, language, capsys):
    """The right half begins at one column on every line: where its first token stands."""
    from rich.cells import cell_len

    run(["trace", "中华人民", "--show", "cells", "--step", "1", "--feed", feed, "--lang", language])
    header, *rows = capsys.readouterr().out.splitlines()[2:]
    name = header.split()[1]
    column = cell_len(header[: header.rindex(name)])
    for line in rows:
        place = next(i for i in range(len(line)) if cell_len(line[:i]) == column)
        assert line[place] in "#xcKV ", line
        if line.strip()[0] in "KV":
            assert line[place] in "cKV"


def test_the_default_table_fits_80_columns(capsys):
    from rich.cells import cell_len

    for name in ("trace-en", "trace-zh"):
        run(CASES[name])
        assert max(cell_len(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "│") <= 80


@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_output_does_not_depend_on_the_width_of_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    run(CASES["trace-zh"])
    assert masked(capsys.readouterr().out) == (GOLDEN / "trace-zh.txt").read_text(encoding="utf-8")


def test_every_line_of_a_table_is_as_wide_as_the_others(capsys):
    from rich.cells import cell_len

    for case in ("trace-zh", "sites-zh", "long-en", "chunk-en", "caches-zh", "compare-zh", "chat-zh", "chat-window-en"):
        run(CASES[case])
        widths = {cell_len(line) for line in capsys.readouterr().out.splitlines() if line[:1] in tuple("┌│├└")}
        assert len(widths) == (2 if case == "long-en" else 1)


@pytest.mark.parametrize(
    "case", ["trace-en-ascii", "caches-llama-en-ascii", "compare-en-ascii", "chat-en-ascii", "memory-deepseek-en"]
)
def test_ascii_is_ascii(case, capsys):
    run(CASES[case])
    assert capsys.readouterr().out.isascii()
