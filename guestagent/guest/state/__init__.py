"""The agent's configuration and its files in /run and /var/lib."""
