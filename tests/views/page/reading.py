"""A page taken apart: its data, style, script and policy."""

import json
import re
from base64 import b64decode
from typing import Any

import numpy as np

from kvsim.comparisons.trace_values import PLACES, decode
from kvsim.views.page.kinds import to_html


def take_apart(result: Any, language: str = "en") -> dict[str, Any]:
    """The page's text, and its parts: data, style, script, policy, still."""
    text = to_html(result, language).decode()
    patterns = {
        "policy": r'Content-Security-Policy" content="([^"]*)"', "style": "<style>(.*?)</style>",
        "script": '<script type="module">(.*?)</script>', "still": "<noscript>(.*?)</noscript>",
        "data": '<script type="application/json" id="data">(.*?)</script>',
    }  # fmt: skip
    parts = {name: re.findall(pattern, text, re.S) for name, pattern in patterns.items()}
    assert all(len(found) == 1 for found in parts.values()), {name: len(found) for name, found in parts.items()}
    return {"text": text, **{name: found[0] for name, found in parts.items()}, "data": json.loads(parts["data"][0])}


def _codes(text: str) -> Any:
    """The numbers of three bytes each."""
    wide = np.zeros((len(b64decode(text)) // 3, 4), dtype=np.uint8)
    wide[:, 1:] = np.frombuffer(b64decode(text), dtype=np.uint8).reshape(-1, 3)
    return wide.view(">u4").ravel().astype(np.int64)


def read_values(data: dict[str, Any], step: int, run: str, layer: int, place: str) -> Any:
    """The numbers of a place in one step and run, as the page's script reads them: [heads, rows, columns]."""
    n = len(data["tokens"])
    first = data["values"]["first"][layer][place]
    heads, width = first["shape"]
    flat = np.zeros((heads, n, width), dtype=np.int64)
    if place == "probs":
        flat[:, *np.tril_indices(n)] = _codes(first["data"]).reshape(heads, -1)
    else:
        flat[...] = _codes(first["data"]).reshape(flat.shape)
    key = f"{step}.{['no_cache', 'cached'].index(run)}.{layer}.{PLACES.index(place)}"
    pairs = _codes(data["values"]["changes"].get(key, "")).reshape(-1, 2)
    flat.reshape(-1)[pairs[:, 0]] = pairs[:, 1]
    group = next(i for i, group in enumerate(data["groups"]) if layer in group["layers"])
    rows, columns = data["shapes"][run][group][step - 1]
    stop = sum(data["feed"][:step])
    if place in ("scores", "probs"):
        return decode(flat[:, stop - rows : stop, stop - columns : stop])
    return decode(flat[:, stop - (columns if place in ("key", "value") else rows) : stop])
