# expect: k_rows_missing
def reads(t):
    rows = list(range(t))
    return [t - 1], [t - 1], rows
