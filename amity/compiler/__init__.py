"""Graphs to kernels, for any target."""
