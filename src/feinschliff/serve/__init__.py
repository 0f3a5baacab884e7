"""Program `python -m feinschliff.serve MODEL_DIR`: answers requests from stdin, a JSON object a line (core.engine)."""
