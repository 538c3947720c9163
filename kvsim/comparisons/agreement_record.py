"""How far two runs' logits agree, as a record."""

from typing import NamedTuple


class Agreement(NamedTuple):
    """Two arrays of logits of the same tokens, compared."""

    difference: float  # largest |difference| of a logit
    allowed: float  # the difference that rounding explains; 0 where every sum adds in one order: nothing may differ
    identical: bool  # equal bit for bit?

    @property
    def agrees(self) -> bool:
        """Is the difference rounding, or nothing where nothing is allowed?"""
        return self.difference <= self.allowed if self.allowed else self.identical


def show_agreement(agrees: bool) -> str:
    """Whether logits agree, for a `repr`."""
    return "logits agree" if agrees else "logits differ"
