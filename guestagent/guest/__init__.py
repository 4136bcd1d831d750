"""The agent: what runs inside the guest."""
