"""Fuzzers: hostile inputs drawn from a seed, each of which kvsim must answer or refuse in one line."""
