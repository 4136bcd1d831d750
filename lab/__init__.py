"""The emulated hosts: guests, networks, probes, the demo. Not shipped."""
