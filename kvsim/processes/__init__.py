"""Child processes that run kvsim's own code: `child` starts and ends them, `channel` exchanges data with them."""
