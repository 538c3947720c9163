"""The oracle for other people's tests. `attention` is the transformer's own, with every option that the
ONNX operator of that name has."""

from kvsim.testing.attention import attention as attention

__all__ = ["attention"]
