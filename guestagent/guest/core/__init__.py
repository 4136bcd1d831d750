"""Pairs, plans and actions of the agent: pure, no I/O."""
