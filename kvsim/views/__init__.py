"""A trace, told. A view formats numbers and words; it computes nothing."""
