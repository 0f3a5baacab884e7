"""`python -m feinschliff.serve.vllm MODEL`: vLLM's own server behind the lines of core.live. It has a process, and maybe an environment, of its own."""
