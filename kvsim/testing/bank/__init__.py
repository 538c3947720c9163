"""The mistake bank: each mistake is the independent decoder with one step, or one method of its cache, done wrong.

Where a name leaves room, each reading is a variant of the same mistake.
"""

from kvsim.errors import UsageError, shortened
from kvsim.testing.bank import heads, masks, policies, rope, rows, windows  # noqa: F401 (they fill the bank)
from kvsim.testing.bank.mistake import BANK as BANK
from kvsim.testing.bank.mistake import Mistake as Mistake


def find_mistake(name: str) -> Mistake:
    """The mistake of that id. UsageError: there is none."""
    if name not in BANK:
        raise UsageError("unknown mistake {name}: kvsim explain lists all", name=shortened(name))
    return BANK[name]
