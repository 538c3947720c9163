import numpy as np


def reads(t):
    rows = np.arange(t)
    return rows[-1:], rows, rows
