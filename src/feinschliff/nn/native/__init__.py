"""Kernels in C for bfloat16 on processors with AVX-512, compiled on first use where there is a C compiler."""
