"""A fault injector: an exception at every line of kvsim in turn, as Ctrl-C may raise one.

`python -m tests.interruptions` interrupts every line of a step under every cache policy and of counting, and runs
threads on one model; `--every 7` only each seventh line, `--opcodes` every bytecode instruction.
"""
