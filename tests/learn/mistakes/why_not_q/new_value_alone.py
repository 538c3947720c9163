# expect: v_rows_missing
def reads(t):
    rows = list(range(t))
    return [t - 1], rows, [t - 1]
