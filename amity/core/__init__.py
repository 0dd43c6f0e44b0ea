"""Words without meaning yet: dtypes, shapes, layouts, devices, errors, settings."""
