"""Every stranger, right and wrong, under its own check, and what the check says of it."""

import re
from pathlib import Path
from typing import NamedTuple

from kvsim import testing
from kvsim.testing import OracleError
from kvsim.testing.bank import BANK
from tests.testing.strangers import edited, numpy_decoders, numpy_mistakes, quantised, reports

FOLDER = Path(__file__).parent
INT8 = "int8:group=2,residual=1"
RIGHT, NAMED, UNKNOWN, FALSE = "right", "named", "unknown", "false"


class Stranger(NamedTuple):
    """A class, and the id of its mistake: "unknown": none of the bank's; "": it is right."""

    file: str
    cls: type
    expected: str


def marked(module, pattern=r"^class (\w+)\(.*# (?:expect|report: \S*): (\w+)$"):
    """The wrong classes of a module, with the ids in the comments on them."""
    name = module.__name__.rpartition(".")[2]
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return [Stranger(name, getattr(module, cls), id) for cls, id in re.findall(pattern, text, re.MULTILINE)]


def every_stranger():
    """Those in NumPy, then those in torch where it is installed."""
    right = {
        "numpy_decoders": numpy_decoders.RIGHT, "numpy_mistakes": [numpy_mistakes.Learned, numpy_mistakes.Alibi],
        "reports": [reports.Engine], "edited": edited.RIGHT, "quantised": quantised.RIGHT,
    }  # fmt: skip
    modules = [numpy_decoders, numpy_mistakes, reports, edited, quantised]
    try:
        from tests.testing.strangers import torch_batches, torch_styles
    except ModuleNotFoundError:
        pass
    else:
        right |= {"torch_styles": [torch_styles.TorchDecoder], "torch_batches": [torch_batches.Batches]}
        modules += [torch_styles, torch_batches]
    found = [Stranger(name, cls, "") for name, classes in right.items() for cls in classes]
    return found + [stranger for module in modules for stranger in marked(module)]


def weights_for(stranger, dtype):
    """Of a model in which the mistake can be made, in the arrays of the stranger."""
    rope = "half" if stranger.expected in ("", "unknown") else BANK[stranger.expected].rope
    rope = {"Learned": "learned", "Alibi": "alibi"}.get(stranger.cls.__name__, rope)
    window = 4 if rope == "half" and stranger.file not in ("quantised", "torch_styles") else None
    more = {}
    if stranger.file.startswith("torch"):
        import torch

        more["array"] = lambda x: torch.from_numpy(x).to(getattr(torch, dtype))
    elif dtype == "bfloat16":
        import ml_dtypes

        more["array"] = lambda x: x.astype(ml_dtypes.bfloat16)
    return testing.weights(dtype=dtype, rope=rope, window=window, **more)


def check(stranger, dtype):
    """OracleError: what is wrong."""
    cls, weights = stranger.cls, weights_for(stranger, dtype)
    make, step = lambda: cls(weights), lambda m, ids: m.forward(ids)
    if stranger.file == "quantised":
        testing.assert_policy(make, step, weights, INT8)
    elif stranger.file == "edited":
        testing.assert_edits(make, step, weights, crop=cls.crop, fork=cls.fork, reorder=cls.reorder)
    elif stranger.file == "torch_batches":
        import torch

        reorder = lambda m, order: m.reorder_cache(torch.tensor(order))  # noqa: E731
        testing.assert_edits(make, step, weights, crop=cls.crop, fork=cls.fork, reorder=reorder, batched=True)
    else:
        testing.assert_split_invariant(make, step, weights)


def judge(stranger, dtype):
    """RIGHT: accepted; NAMED: as its mistake alone; UNKNOWN: caught, and not named; FALSE: anything else is named, or
    what is right is refused. And the ids that were given."""
    try:
        check(stranger, dtype)
    except OracleError as error:
        ids = [id for id in error.facts["diagnosis"] if id != "unknown"]
        if not ids and stranger.expected:
            return UNKNOWN, ids
        return (NAMED if ids == [stranger.expected] else FALSE), ids
    return RIGHT, []
