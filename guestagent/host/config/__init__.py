"""Descriptions of VMs and of the host's VFs, in TOML."""
