"""The demonstration of ``./dev demo``."""
