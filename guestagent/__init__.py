"""Accelerated networking that survives live migration: the agent and the host helper."""

__version__ = "0.1.0"
