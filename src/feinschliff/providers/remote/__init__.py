"""Models that others host: an OpenAI account, an Azure OpenAI resource, or another machine's `feinschliff serve`."""
