"""Tools for those who develop amity, or with it."""
