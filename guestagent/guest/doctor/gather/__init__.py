"""Gathers what the checks judge: asks the system, changes nothing."""
