"""Azure OpenAI's dialect: other paths, the same use cases."""
