"""Shape suffixes are right: in a model whose sizes are all different, every local array of kvsim/transformer has the
shape that its name states."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import kvsim.transformer
from kvsim.config import Alibi, Experts, LayerKind
from tests.models import GPT2_LIKE, PRIMES, make_model

FOLDER = str(Path(kvsim.transformer.__file__).parent)
SUFFIX = re.compile(r"_((?:[TSDFHGRKJVNEXP1]+)(?:_[TSDFHGRKJVNEXP1]+)*)$")
# Files with functions for arrays of any shape, or with dimensions that are sums; arrays there may lack a suffix.
GENERIC = {"rotary.py", "positions.py", "latent.py", "experts.py"}


def check_array(where: str, name: str, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Compare `shape` with the name's suffix. T, S and N take the size of their first appearance in `sizes`."""
    match = SUFFIX.search(name)
    if match is None and where.partition(":")[0] in GENERIC:
        return
    assert match, f"{where}: the array {name} {shape} has no suffix"
    groups = match[1].split("_")
    axes = groups if len(groups) > 1 else list(groups[0])
    assert len(axes) == len(shape), f"{where}: {name} has shape {shape}"
    for axis, size in zip(axes, shape, strict=True):
        if axis in ("T", "S", "N"):
            assert sizes.setdefault(axis, size) == size, f"{where}: {name} has shape {shape}, {axis} is {sizes[axis]}"
        else:
            if "X" in axis:
                sizes.setdefault("X", size // math.prod(sizes[letter] for letter in axis if letter != "X"))
            expected = math.prod(sizes[letter] for letter in axis)
            assert size == expected, f"{where}: {name} has shape {shape}, {axis} is {expected}"


def check_frame(frame: FrameType, sizes: dict[str, int]) -> int:
    """Check every local array of a frame against its suffix; the number of arrays checked."""
    checked = 0
    function = frame.f_code.co_name
    local = dict(sizes)
    for name, value in frame.f_locals.items():
        is_array = hasattr(value, "dtype") and isinstance(getattr(value, "shape", None), tuple)
        if is_array and value.shape:
            check_array(f"{Path(frame.f_code.co_filename).name}:{function}", name, tuple(value.shape), local)
            checked += 1
    return checked


def run_checked(run: Callable[[], Any], sizes: dict[str, int], folder: str = FOLDER) -> int:
    """Call `run()`, checking every function of a file under `folder` at each line and at its return; the number of
    arrays checked."""
    checked = 0

    def on_event(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal checked
        if event in ("line", "return"):
            checked += check_frame(frame, sizes)
        return on_event

    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        comprehension = frame.f_code.co_name.startswith("<")
        return on_event if frame.f_code.co_filename.startswith(folder) and not comprehension else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        run()
    finally:
        sys.settrace(before)
    return checked


def sizes_of(config: Any) -> dict[str, int]:
    r = config.n_heads // config.n_kv_heads
    return {"D": config.d_model, "F": config.d_ff, "H": config.n_heads, "G": config.n_kv_heads, "R": r,
            "K": config.d_head, "J": config.d_head // 2, "V": config.vocab_size, "E": 19, "P": config.d_model,
            "1": 1}  # fmt: skip


ALIBI = replace(PRIMES, layers=(LayerKind(),) * 2, alibi=Alibi(6), sinks=True)
MIXED = replace(PRIMES, layers=(replace(PRIMES.layers[0], experts=Experts(19, 2, 17, "softmax", True)),) * 2)


@pytest.mark.parametrize("config", [PRIMES, GPT2_LIKE, ALIBI, MIXED], ids=["rope", "learned", "alibi", "mixture"])
@pytest.mark.parametrize("logits", ["all", "last"])
def test_suffixes_match_shapes(config: Any, logits: Any) -> None:
    model = make_model(config)
    cache = model.new_cache("dynamic")
    for ids in (list(range(7)), [1], list(range(4))):
        seen = cache.seen
        sizes = sizes_of(config) | {"T": len(ids), "S": seen + len(ids)}
        assert run_checked(lambda ids=ids: model(ids, cache, logits=logits), sizes) > 100


def test_suffixes_match_shapes_in_a_batch() -> None:
    """T is the number of all new tokens outside attention and of one sequence's inside: one size per frame."""
    model = make_model(PRIMES)
    pairs = [(list(range(19)), model.new_cache()), (list(range(23)), model.new_cache())]
    assert run_checked(lambda: model.batch(pairs), sizes_of(PRIMES)) > 100


def test_a_wrong_suffix_is_found(tmp_path: Path) -> None:
    source = tmp_path / "wrong.py"
    source.write_text("def mislabel(x_TD):\n    x_DT = x_TD\n    return x_DT\n")
    scope: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), scope)
    x = np.zeros((7, PRIMES.d_model))
    with pytest.raises(AssertionError, match="x_DT has shape"):
        run_checked(lambda: scope["mislabel"](x), sizes_of(PRIMES) | {"T": 7}, folder=str(tmp_path))
