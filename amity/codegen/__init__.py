"""Kernels to code, one file a target family."""
