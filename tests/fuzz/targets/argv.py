"""Random command lines of every command. Sizes are small or absurd, since those between take their honest time."""

import tempfile

from kvsim.cli import COMMANDS
from tests.fuzz.commands import run_command
from tests.fuzz.mutations import NUMBERS, TEXTS

HUGE = [number for number in NUMBERS if abs(number) > 2**32]
OPTIONS = {
    "bench": ("--model", "-n", "--prompt", "--points", "--repeats", "--peer", "--backend", "--device", "--dtype"),
    "caches": ("--model", "--dtype"),
    "chat": ("--model", "--turns", "--cache", "-n", "--feed", "--dtype", "--backend", "--script", "--json"),
    "claims": ("--id",),
    "compare": ("--model", "--cache", "-n", "--dtype", "--backend", "--json"),
    "cost": ("--prompt", "--new", "--convention", "--cache", "--device", "--dtype", "--overhead", "--latent",
             "--source", "--plot", "-v", "--json", "--ascii"),
    "doctor": ("--backend", "--model", "--device"),
    "explain": ("--heads", "--kv-heads", "--window", "--queries", "--keys", "--d-head", "--layers", "--batch",
                "--rotated", "--cases", "--reading", "--seed", "--json"),
    "memory": ("--context", "--batch", "--dtype", "--cache-dtype", "--block", "--source", "-v", "--json", "--ascii"),
    "plan": ("--device", "--context", "--dtype", "--cache-dtype", "--utilization", "--devices", "--source", "--sweep",
             "--batch", "--csv", "-v", "--json"),
    "schema": (),
    "tolerance": ("--dtype", "--context", "--layers", "--heads", "--kv-heads", "--d-head", "--seed", "--json"),
    "trace": ("--model", "--cache", "-n", "--feed", "--dtype", "--backend", "--json", "--ascii", "--device", "--svg",
              "--step", "--html", "--perfetto", "--clock"),
    "verify": ("--cases", "--heads", "--seed", "--time-limit"),
}  # fmt: skip
VALUES = {
    "--model": ("demo", "gpt2", "llama-2-7b-hf", ".", "nowhere"), "--dtype": ("float32", "float16", "int8", "fp8"),
    "--cache": ("dynamic", "none", "static:64", "window:8", "paged:4", "int8"), "--latent": ("absorbed", "nothing"),
    "--cache-dtype": ("int8", "int4:zero", "fp8", "float16"), "--device": ("a10", "t4", "cpu", "none"),
    "--backend": ("numpy", "exact", "meta", "cupy", "nothing"), "--convention": ("square", "causal", "last", "all"),
    "--feed": ("token", "prefill", "chunk:2", "chunk:0", "chunk:99999999999999999999"), "--svg": ("a.svg", "x/a.svg"),
    "--perfetto": ("a.json", "a.json.gz", "x/a.json"), "--clock": ("measured", "model:t4", "model:none", "t4"),
    "--html": ("a.html", "x/a.html"),
    "--csv": ("a.csv", "x/a.csv"), "--peer": ("nobody",), "--utilization": ("0.9", "1", "2", "1e-9"),
    "--sweep": ("grid.json", "-"), "--context": ("1", "4096", "4096,99999999999999999999", "1,,2"),
}  # fmt: skip
FLAGS = ("--plot", "-v", "--json", "--ascii", "--rotated", "--debug")
FIRST = {
    "cost": ("gpt2", "llama-2-7b-hf", "deepseek-v3", "whisper-tiny"), "memory": ("gpt2", "t5-small", "gemma-2-9b"),
    "plan": ("gpt2", "mixtral-8x7b-v0.1"), "explain": ("mask_top_left", "nothing"), "trace": ("中华", "中"),
    "chat": ("中华",), "compare": ("中华",), "schema": ("trace", "nothing"), "verify": ("nothing.py:f",),
}  # fmt: skip
SLOW = ("bench", "doctor", "claims", "learn", "vectors", "verify")  # run only with an argument that is refused


def draw_word(random, command, option):
    """A value for an option: one of its own, a number, or text."""
    if option in VALUES and random.random() < 0.85 and (command, option) != ("tolerance", "--context"):
        return random.choice(VALUES[option])
    if random.random() < 0.9:
        return str(random.choice((1, 2, 3) if random.random() < 0.6 else (-1, 0, *HUGE)))
    return random.choice([text for text in TEXTS if "/" not in text and "\x00" not in text])  # no path of a real file


def valid(folder):
    tempfile.tempdir = str(folder)
    return ["memory", "gpt2"], folder


def make(random, folder):
    command = random.choice((*COMMANDS, "cost", "memory", "plan", "explain", "tolerance", "trace"))
    argv = [command]
    if command in FIRST and random.random() < 0.95:
        argv.append(random.choice(FIRST[command]))
    for option in random.sample(OPTIONS.get(command, ()), min(random.randrange(5), len(OPTIONS.get(command, ())))):
        argv += [option] if option in FLAGS else [option, draw_word(random, command, option)]
    if command == "explain" and not any(word.isdigit() and int(word) in HUGE for word in argv):
        argv += ["--queries", "2"]  # of an attention function: a decoder takes seconds
    if command in SLOW:
        argv.append("--nothing")
    if random.random() < 0.1:
        argv.insert(random.randrange(len(argv)), random.choice((*TEXTS, "--", "--lang=zh", "--lang", "--help")))
    return argv, folder


def use(given):
    run_command(*given)
