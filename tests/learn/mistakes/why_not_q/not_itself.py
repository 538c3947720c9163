# expect: own_row_missing
def reads(t):
    rows = list(range(t))
    return [t - 1], rows[:-1], rows[:-1]
