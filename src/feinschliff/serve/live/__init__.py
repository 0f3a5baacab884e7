"""`python -m feinschliff.serve MODEL --live`: many requests at once over one base model (core.live)."""
