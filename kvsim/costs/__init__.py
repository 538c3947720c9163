"""What a model costs, counted exactly without data: `counter` counts, `catalogue` knows public models."""
