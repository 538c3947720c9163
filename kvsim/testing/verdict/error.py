"""The error that a failed check raises."""

from kvsim.testing.verdict.facts import to_facts
from kvsim.testing.verdict.failure import Failure
from kvsim.testing.verdict.sections import render
from kvsim.testing.verdict.text import speak


class OracleError(AssertionError):
    """A check failed. `str()` is the text, in the language of KVSIM_LANG when it was raised; `failure` the record it is
    made from; `facts` the same as plain data: `facts["diagnosis"]` is the list of mistakes' ids, ["unknown"] if none
    explains the output."""

    def __init__(self, failure: Failure) -> None:
        say = speak()
        super().__init__(render(failure, say))
        self.failure = failure
        self.facts = to_facts(failure, say)

    def __reduce__(self) -> tuple[type["OracleError"], tuple[Failure]]:
        return OracleError, (self.failure,)

    def __repr__(self) -> str:
        return f"OracleError({self.failure!r})"
