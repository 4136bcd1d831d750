"""The journal of a VM and the lock on it."""
