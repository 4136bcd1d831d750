"""The commands of ``guestagent``, one module for each group."""
