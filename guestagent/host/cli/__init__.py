"""The commands of ``guestagent-host``."""
