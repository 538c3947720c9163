"""The mistake bank: each mistake is the independent decoder, or one of its caches, with one method done wrong.

Where the name of a mistake can be read in several ways, each reading is a variant of it.
"""

from kvsim.errors import UsageError, shortened
from kvsim.testing.bank import (  # noqa: F401 (imported to fill the bank)
    beams,
    buffers,
    edits,
    heads,
    layers,
    masks,
    policies,
    positions,
    rings,
    rope,
    rows,
    storage,
    windows,
)
from kvsim.testing.bank.mistake import BANK as BANK
from kvsim.testing.bank.mistake import Mistake as Mistake


def find_mistake(name: str) -> Mistake:
    """The mistake with that id. UsageError: an unknown id."""
    if name not in BANK:
        raise UsageError("unknown mistake {name}: kvsim explain lists all", name=shortened(name))
    return BANK[name]
