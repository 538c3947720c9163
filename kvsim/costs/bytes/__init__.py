"""Sizes of weights and caches."""
