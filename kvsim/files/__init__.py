"""Files: atomic writing, and reading of files whose content is not trusted."""
