"""Words without meaning yet: dtypes, shapes, layouts, devices, errors, settings."""

from . import sources as sources  # first of all: it tells which code is about to be loaded
