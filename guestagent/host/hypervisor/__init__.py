"""The hypervisor and the agent in the guest behind Protocols; qemu.qmp is imported here alone."""
