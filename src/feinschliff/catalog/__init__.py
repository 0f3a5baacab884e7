"""Which models there are and where their weights come from. Data files, not code."""
