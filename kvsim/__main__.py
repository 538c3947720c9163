"""`python -m kvsim` is the command `kvsim`."""

import sys

if not sys.flags.safe_path:  # -m puts the working directory first: a file json.py there would be taken for Python's own
    del sys.path[0]

from kvsim.entry import main

main()
