"""The second engine: vLLM's own server behind the lines of core.live. No torch is loaded here; vLLM has a process, and maybe an environment, of its own."""
