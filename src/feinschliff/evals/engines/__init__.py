"""Where queries are run: a read-only engine in a child process that can be killed (`child`), and what it may answer (`rows`)."""
