"""What the page tells of each result, and its texts: one file, or two, for each kind."""
