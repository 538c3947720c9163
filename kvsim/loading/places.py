"""Finds models: bundled ones by their names, others by path."""

from pathlib import Path

from kvsim.errors import UsageError, shortened

BUNDLED = {"demo": Path(__file__).resolve().parent.parent / "demo"}


def find_model(name: str) -> Path:
    """The folder of a bundled model, or the folder or file at a path. UsageError: it does not exist."""
    if name in BUNDLED:
        return BUNDLED[name]
    try:
        path = Path(name).expanduser()
        found = bool(name) and path.exists()
    except (OSError, RuntimeError, ValueError):  # a name that is too long, an unknown ~user, a NUL byte
        found = False
    if not found:
        raise UsageError(
            "no model {name}: use demo, the path of a folder with config.json and model.safetensors, or of a .gguf",
            name=shortened(name),
        )
    if not path.is_dir() and path.suffix.lower() != ".gguf":
        raise UsageError(
            "{name} is no model: that is a folder with config.json and model.safetensors, or a .gguf file", name=name
        )
    return path
