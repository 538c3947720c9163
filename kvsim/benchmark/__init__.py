"""How fast a model runs on this machine, and against what: `machine` measures the limits, `decoding` the model,
`peers` others with the same weights."""
