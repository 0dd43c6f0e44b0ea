"""Programs as data: kernels, graphs, targets."""
