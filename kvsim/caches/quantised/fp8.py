"""`fp8`: older rows as 8-bit floats."""

from typing import Any

from kvsim.caches.base import Shape, State
from kvsim.caches.quantised.codes import Packed
from kvsim.caches.quantised.layer import QuantisedLayer
from kvsim.caches.quantised.options import Options
from kvsim.errors import UsageError, Words
from kvsim.ops import Ops


class Fp8Layer(QuantisedLayer):
    """float8_e4m3fn, up to 448."""

    name = example = "fp8"
    promise = Words("every row; all but the newest 128 or more rounded to 8-bit floats, in groups with a scale each")
    takes_zero = False

    def _cast(self, dtype: Any) -> list[Packed]:
        """The quantised rows, with payloads cast to `dtype`."""
        return [packed._replace(payload=self.ops.xp.astype(packed.payload, dtype)) for packed in self._packed]

    def state(self) -> State:
        """The payloads as float16, which is exact: not every library copies 8-bit floats to the host."""
        numbers, arrays = super().state()
        keys, values = self._cast(self.ops.xp.float16)
        return State(numbers, arrays | {"keys.payload": keys.payload, "values.payload": values.payload})

    def restore(self, state: State) -> None:
        super().restore(state)
        self._packed = self._cast(self.ops.xp.float8_e4m3fn)

    def __getstate__(self) -> dict[str, Any]:
        """The payload as float32, which is exact: torch cannot read back a pickled array of 8-bit floats."""
        return self.__dict__ | {"_packed": self._cast(self.ops.xp.float32)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._packed = self._cast(self.ops.xp.float8_e4m3fn)

    @classmethod
    def _check(cls, spec: str, shape: Shape, ops: Ops, options: Options) -> None:
        super()._check(spec, shape, ops, options)
        if not hasattr(ops.xp, "float8_e4m3fn"):
            raise UsageError(
                "the cache {spec} stores float8_e4m3fn, which the backend {backend} does not support (numpy and exact"
                ' do after pip install ".[quant]" in a clone of kvsim): use int8',
                spec=spec,
                backend=ops.backend.name,
            )
