"""The version of amity, read by the package build and shown by `amity --version`."""

__version__ = "0.1.0"
