"""Copies of the demo model with changed files."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from kvsim.loading.places import BUNDLED


def copy_demo(folder: Path) -> Path:
    shutil.copytree(BUNDLED["demo"], folder / "model")
    return folder / "model"


def change_config(folder: Path, **fields: object) -> Path:
    """Set fields of config.json; a field set to `...` is removed."""
    file = folder / "config.json"
    facts = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}))
    return folder


def change_tensors(folder: Path, **tensors: np.ndarray | None) -> Path:
    """Replace or add tensors of model.safetensors (`__` in a name stands for a dot); None removes one."""
    file = folder / "model.safetensors"
    stored = load_file(file)
    for name, value in tensors.items():
        key = name.replace("__", ".")
        stored.pop(key, None)
        if value is not None:
            stored[key] = value
    save_file(stored, file)
    return folder


def change_header(folder: Path, change) -> Path:
    """Apply `change` to the safetensors header, bypassing the library's validation."""
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    return folder
