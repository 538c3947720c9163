"""GGUF files (extra gguf): the model and the tokenizer in them."""
