"""Program `python -m feinschliff.train RUN_DIR`: reads spec.json, appends events.jsonl, writes checkpoints and the model."""
