"""The contents of the page for each kind of result, and its texts: one file or two for each."""
