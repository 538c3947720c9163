class WindowCache:
    """A list of (token, key, value), one token at a time."""

    def __init__(self, window, sinks):
        self.window, self.sinks = window, sinks
        self.rows, self.count = [], 0

    def update(self, keys, values):
        rows, steps = list(self.rows), []
        for t in range(keys.shape[1]):
            rows.append((self.count, keys[:, t], values[:, t]))
            steps.append([token for token, _, _ in rows if self.sees(self.count, token)])
            self.count += 1
        positions = [[seen.index(token) if token in seen else -1 for token, _, _ in rows] for seen in steps]
        self.rows = [row for row in rows if self.sees(self.count, row[0])]
        return swap([key for _, key, _ in rows]), swap([value for _, _, value in rows]), positions

    def sees(self, query, token):
        return token <= query and (token > query - self.window or token < self.sinks)


def swap(rows):
    """[H][R] of [R][H]."""
    return [[row[head] for row in rows] for head in range(len(rows[0]))]
