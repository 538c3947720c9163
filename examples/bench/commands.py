"""Times of commands and of loading: python examples/bench/commands.py [PAIRS]

Each line is the median and the quartiles of ratios of interleaved runs. Commands are timed as whole processes, relative
to a Python process that imports only NumPy; loading is timed relative to reading the same file, which is in the page
cache by then, and to transformers.
"""

import importlib.util
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from bars import report

import kvsim
from kvsim.benchmark.limits import describe_machine
from kvsim.benchmark.peers import import_transformers
from kvsim.benchmark.subjects import open_subject

COUNT = "import kvsim; kvsim.count('llama-3.1-405b', prompt=130_072, new=1_000, dtype='bfloat16').by('site')"


def python(*arguments):
    """A function that runs Python with these arguments in a subprocess."""
    return partial(subprocess.run, [sys.executable, *arguments], check=True, capture_output=True)


def kvsim_command(*arguments):
    return python("-m", "kvsim", *arguments)


def read_bare(file):
    """A function that reads all bytes of a file into an array."""
    import numpy as np

    return lambda: np.fromfile(file, dtype=np.uint8)


def commands(pairs):
    numpy, nothing = python("-c", "import numpy"), python("-c", "pass")
    report("import kvsim / an empty Python program", nothing, python("-c", "import kvsim"), pairs)
    report("kvsim trace 中华人民 / import numpy", numpy, kvsim_command("trace", "中华人民"), pairs)
    report("kvsim.count of Llama-3.1-405B, 131,072 tokens, per site / import numpy", numpy, python("-c", COUNT), pairs)
    report("kvsim memory llama-2-7b-hf / import numpy", numpy, kvsim_command("memory", "llama-2-7b-hf"), pairs)
    cost = kvsim_command("cost", "gpt2", "--prompt", "5", "--new", "1000", "--device", "t4", "--dtype", "float16")
    report("kvsim cost gpt2 --prompt 5 --new 1000 --device t4 --dtype float16 / import numpy", numpy, cost, pairs)


def loading(pairs):
    """Time loading of GPT-2-124M's shape in float32, from a checkpoint written by transformers."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        print("loading: needs transformers, which writes the checkpoint")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_subject("gpt2", "numpy", None, "float32", folder)
        torch, transformers = import_transformers()
        mine = partial(kvsim.load, folder, backend="numpy")

        def theirs():
            """Load and sum the parameters: the file is memory-mapped, so that its pages are read by the sum."""
            with torch.inference_mode():
                return sum(
                    float(x.sum()) for x in transformers.AutoModelForCausalLM.from_pretrained(folder).parameters()
                )

        report("kvsim.load, GPT-2 / reading its file", read_bare(folder / "model.safetensors"), mine, pairs)
        report("transformers' from_pretrained, every number read once, GPT-2 / kvsim.load", mine, theirs, pairs)


if __name__ == "__main__":
    how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(describe_machine())
    commands(how_many)
    loading(how_many)
