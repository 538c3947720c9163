"""Tokenizers: tables of characters in this process, every other kind in a process of its own."""
