"""Counting: one event for every matrix product that ran, ledgers that sum events, and watchers of arrays."""
