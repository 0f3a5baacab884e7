"""The command line. It turns words into calls of use cases and results into text; it decides nothing itself."""
