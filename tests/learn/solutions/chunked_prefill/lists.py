def mask(queries, keys):
    return [[key <= keys - queries + t for key in range(keys)] for t in range(queries)]
