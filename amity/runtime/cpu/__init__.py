"""This machine's processor: loading code, memory, the worker pool, generated builtins."""
