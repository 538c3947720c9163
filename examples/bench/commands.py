"""How long whole commands take, and loading: python examples/bench/commands.py [PAIRS]

Each line is the median and the quartiles of ratios of interleaved runs. Commands are whole processes, beside a Python
that imports what nobody can do without; loading is beside the bare reading of the same file, which is in memory by
then, and beside transformers where that is installed.
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
    """A whole Python process."""
    return partial(subprocess.run, [sys.executable, *arguments], check=True, capture_output=True)


def kvsim_command(*arguments):
    return python("-m", "kvsim", *arguments)


def read_bare(file):
    """All bytes of a file, as an array would hold them."""
    import numpy as np

    return lambda: np.fromfile(file, dtype=np.uint8)


def commands(pairs):
    numpy, nothing = python("-c", "import numpy"), python("-c", "pass")
    report("import kvsim / python that does nothing", nothing, python("-c", "import kvsim"), pairs)
    report("kvsim trace 中华人民 / import numpy", numpy, kvsim_command("trace", "中华人民"), pairs)
    report("kvsim.count of Llama-3.1-405B, 131,072 tokens, per site / import numpy", numpy, python("-c", COUNT), pairs)
    report("kvsim memory llama-2-7b-hf / import numpy", numpy, kvsim_command("memory", "llama-2-7b-hf"), pairs)
    cost = kvsim_command("cost", "gpt2", "--prompt", "5", "--new", "1000", "--device", "t4", "--dtype", "float16")
    report("kvsim cost gpt2 --prompt 5 --new 1000 --device t4 --dtype float16 / import numpy", numpy, cost, pairs)


def loading(pairs):
    """GPT-2-124M's shape in float32, in a checkpoint that transformers wrote."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        print("loading: needs transformers, which writes the checkpoint")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_subject("gpt2", "numpy", None, "float32", folder)
        torch, transformers = import_transformers()
        mine = partial(kvsim.load, folder, backend="numpy")

        def theirs():
            """The file is mapped into memory, and read when its numbers are first asked for: here."""
            with torch.inference_mode():
                return sum(
                    float(x.sum()) for x in transformers.AutoModelForCausalLM.from_pretrained(folder).parameters()
                )

        report("kvsim.load, GPT-2 / its file read bare", read_bare(folder / "model.safetensors"), mine, pairs)
        report("transformers' from_pretrained, every number read once, GPT-2 / kvsim.load", mine, theirs, pairs)


if __name__ == "__main__":
    how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(describe_machine())
    commands(how_many)
    loading(how_many)
