"""Products, bytes moved and time of a run."""
