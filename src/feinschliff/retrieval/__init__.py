"""Documents found for a question: read, cut into chunks, searched by words and by meaning."""
