"""Programs, paths, waiting and temporary names: used by every other room."""
