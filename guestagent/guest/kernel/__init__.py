"""The only importers of pyroute2 and pyudev: kernel spellings stay in here."""
