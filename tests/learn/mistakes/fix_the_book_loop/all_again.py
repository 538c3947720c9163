# expect: nothing_saved_in_loop
class BookLoop:
    """Every token is fed again at every step."""

    def __init__(self, model, layers):
        self.model, self.layers, self.ids = model, layers, []

    def forward(self, ids):
        rows = []
        for token in ids:
            self.ids.append(token)
            rows.append(self.run()[-1])
        return rows

    def run(self):
        m = self.model
        hidden = [m.embed(token, position) for position, token in enumerate(self.ids)]
        for layer in range(self.layers):
            keys = [m.key(layer, x) for x in hidden]
            values = [m.value(layer, x) for x in hidden]
            hidden = [
                m.rest(layer, x, m.attention(m.query(layer, x), keys[: t + 1], values[: t + 1]))
                for t, x in enumerate(hidden)
            ]
        return [m.logits(hidden[-1])]
