"""How many processors this process may use: what a container or `taskset` left it, not what the machine has."""

import os


def usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
