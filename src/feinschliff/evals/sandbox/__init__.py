"""A client's own Python in a process of its own, which can read no files but Python's, write none, and reach no network."""
