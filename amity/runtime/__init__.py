"""Code to running: memory, workers and native calls, one folder a kind of device."""
