"""Benchmarks against PyTorch, interleaved in one process."""
