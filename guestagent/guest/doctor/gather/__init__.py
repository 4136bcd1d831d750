"""Facts for the checks, read from the system without changing it."""
