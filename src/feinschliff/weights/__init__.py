"""Program `python -m feinschliff.weights SOURCE.gguf OUT_DIR`: a GGUF file becomes an ordinary model folder."""
