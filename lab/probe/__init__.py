"""Packets under way during a test, and the account of those that were lost."""
