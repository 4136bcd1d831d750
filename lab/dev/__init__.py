"""The commands of ``./dev``."""
