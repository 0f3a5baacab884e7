"""Arms: what is put around a question before a model answers it. An arm's name is its recipe."""
