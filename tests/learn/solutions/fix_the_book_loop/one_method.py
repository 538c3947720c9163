import numpy as np


class BookLoop:
    def __init__(self, model, layers):
        self.model = model
        self.rows = [([], []) for _ in range(layers)]

    def forward(self, ids):
        return np.stack([self.step(token) for token in ids])

    def step(self, token):
        m = self.model
        x = m.embed(token, len(self.rows[0][0]))
        for layer, (keys, values) in enumerate(self.rows):
            keys.append(m.key(layer, x))
            values.append(m.value(layer, x))
            x = m.rest(layer, x, m.attention(m.query(layer, x), np.stack(keys), np.stack(values)))
        return m.logits(x)
