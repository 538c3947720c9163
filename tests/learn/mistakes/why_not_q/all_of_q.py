# expect: q_rows_needed
def reads(t):
    rows = list(range(t))
    return rows, rows, rows
