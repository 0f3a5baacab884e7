"""Training data: read any format, check it, curate it, split it without leaks, render it as tokens."""
