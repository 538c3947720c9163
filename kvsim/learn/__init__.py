"""The learn track: exercises about KV caching, each checked so that the mistake that was made is named.

An exercise is a folder of data in `track/`, and a checker in `checkers/` on top of `kvsim.testing`.
"""
