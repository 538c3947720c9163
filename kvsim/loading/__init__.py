"""Reads files into Config, Weights and Tokenizer: `loader` a whole model, `config_file` a config.json alone."""
