"""How fast a model runs on this machine: `limits` measures the machine, `decoding` the model, `peers` other
implementations with the same weights; `record` holds what was measured."""
