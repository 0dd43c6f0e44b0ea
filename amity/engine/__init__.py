"""Joins compiler, codegen and runtime: Programs, built once and cached."""
