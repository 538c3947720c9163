"""Files on disk to Config, Weights and Tokenizer: `loader` reads a model, `config_file` its facts alone."""
