# expect: counted_from_one
def reads(t):
    rows = list(range(1, t + 1))
    return [t], rows, rows
