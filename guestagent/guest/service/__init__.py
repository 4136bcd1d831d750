"""The agent's processes: the daemon and the units of a boot."""
