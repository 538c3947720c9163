# expect: learned_pos_restarts_at_0
"""05 fix_the_book_loop. The task: kvsim learn show 05. Save, and run kvsim learn run 05."""


class BookLoop:
    """A decoder, one token at a time, that has two mistakes. `model` has the parts of a model; `layers` is their number."""

    def __init__(self, model, layers):
        self.model, self.layers = model, layers
        self.keys = [[] for _ in range(layers)]
        self.values = [[] for _ in range(layers)]
        self.position = 0

    def forward(self, ids):
        """The logits of each token: the first call brings the prompt, later ones what follows."""
        step = self.decode
        self.position, rows = 0, []
        for token in ids:
            rows.append(step(token))
            self.position += 1
        return rows

    def prefill(self, token):
        """A token of the prompt."""
        x = self.model.embed(token, self.position)
        for layer in range(self.layers):
            self.keys[layer].append(self.model.key(layer, x))
            self.values[layer].append(self.model.value(layer, x))
            query = self.model.query(layer, x)
            attended = self.model.attention(query, self.keys[layer], self.values[layer])
            x = self.model.rest(layer, x, attended)
        return self.model.logits(x)

    def decode(self, token):
        """A token after the prompt."""
        x = self.model.embed(token, self.position)
        for layer in range(self.layers):
            self.keys[layer].append(self.model.key(layer, x))
            self.values[layer].append(self.model.value(layer, x))
            query = self.model.query(layer, x)
            attended = self.model.attention(query, self.keys[layer], self.values[layer])
            x = self.model.rest(layer, x, attended)
        return self.model.logits(x)
