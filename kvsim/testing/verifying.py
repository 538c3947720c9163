"""`kvsim verify FILE.py:NAME`: somebody's function or class, checked in a process of its own.

A function is attention; a class that has `update` is a cache for the small decoder; any other class is a decoder made
from weights. `python -m kvsim.testing.verifying` is that process: it writes what it found to a file.
"""

import inspect
import json
import subprocess
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.errors import FileError, UsageError
from kvsim.testing.attention_check import assert_attention
from kvsim.testing.decoder import POLICIES, Decoder
from kvsim.testing.failing import OracleError
from kvsim.testing.foreign import told
from kvsim.testing.model_weights import ModelWeights, make_weights
from kvsim.testing.rows import Rows
from kvsim.testing.splitting import assert_split_invariant

FINE, WRONG, NOT_STARTED, BROKEN = "fine", "wrong", "not started", "broken"


class ForeignRows(Rows):
    """A cache of somebody else's: `update(layer, keys, values)` takes the new rows [G, T, K], rotated, and gives all
    that are held, the newest last."""

    cache: Any = None

    def append(self, start: int, keys: list[Any], values: list[Any]) -> None:
        held = self.decoder.foreign.update(self.layer, np.stack(keys, axis=1), np.stack(values, axis=1))  # type: ignore[attr-defined]
        all_keys, all_values = (np.asarray(x, np.float64) for x in held)
        g, _, k = all_keys.shape
        if all_keys.shape != all_values.shape or (g, k) != keys[0].shape:
            raise ValueError(
                f"update gave keys {all_keys.shape} and values {all_values.shape}, expected"
                f" ({keys[0].shape[0]}, rows, {keys[0].shape[1]})"
            )
        self.keys, self.values = list(all_keys.transpose(1, 0, 2)), list(all_values.transpose(1, 0, 2))
        count, stop = len(self.keys), start + len(keys)
        self.positions = list(range(stop - count, stop))


class WithCache(Decoder):
    """The small decoder with somebody else's cache."""

    caches = POLICIES | {"dynamic": ForeignRows}

    def __init__(self, weights: ModelWeights, cache: Any) -> None:
        self.foreign = cache
        super().__init__(weights.config.to_config(), weights.to_weights())


def check(thing: Any, seed: int) -> None:
    """The checks that fit it."""
    if inspect.isclass(thing) and hasattr(thing, "update"):
        weights = make_weights(seed=seed)
        assert_split_invariant(lambda: WithCache(weights, thing()), lambda d, ids: d.forward(ids), weights, seed=seed)
    elif inspect.isclass(thing):
        windowed = len(inspect.signature(thing).parameters) >= 1
        weights = make_weights(seed=seed)
        step = "forward" if hasattr(thing, "forward") else "__call__"
        assert_split_invariant(
            thing if windowed else lambda _: thing(), lambda d, ids: getattr(d, step)(ids), weights, seed=seed,
            windows=(None, 4) if getattr(thing, "has_window", False) else (None,),
        )  # fmt: skip
    else:
        names = inspect.signature(thing).parameters
        layout = getattr(thing, "layout", "b t h d")
        for window in (None, 4) if "window" in names else (None,):
            assert_attention(thing, layout, heads=4, kv_heads=2, window=window, seed=seed)


def split_target(target: str) -> tuple[Path, str]:
    """UsageError: not FILE.py:NAME. FileError: there is no such file."""
    path, _, name = target.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise UsageError("verify takes FILE.py:NAME, got {target}", target=repr(target))
    if not Path(path).is_file():
        raise FileError("{path}: no such file", path=path)
    return Path(path), name


def verify(target: str, seed: int = 0, seconds: float = 60.0) -> tuple[str, str, str]:
    """How it ended (FINE, WRONG, NOT_STARTED, BROKEN), what is to be said, and what the code itself printed. It runs
    apart, without input, for so many seconds at most.

    UsageError: it says nothing that can be checked."""
    path, name = split_target(target)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", "kvsim.testing.verifying", str(path), name, str(seed), str(out)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return BROKEN, f"{target}: > {seconds:g} s", ""
        printed = done.stdout
        if not out.exists():
            last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            return BROKEN, f"{target}: {last}", printed
        found = json.loads(out.read_text(encoding="utf-8"))
    return found["ended"], found["text"], printed


def run_here(path: Path, name: str, seed: int) -> tuple[str, str]:
    """In the process apart."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, name):
            return BROKEN, f"{path}: no {name}"
        check(getattr(module, name), seed)
    except NotImplementedError as error:
        return NOT_STARTED, told(error)
    except OracleError as error:
        text = str(error)
        return (NOT_STARTED if "raised NotImplementedError" in text.splitlines()[0] else WRONG), text
    except SystemExit as error:
        return BROKEN, told(error)
    except Exception as error:
        return BROKEN, told(error)
    return FINE, ""


def main(arguments: list[str]) -> None:
    path, name, seed, out = arguments
    ended, text = run_here(Path(path), name, int(seed))
    Path(out).write_text(json.dumps({"ended": ended, "text": text}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
