"""The only importers of qemu.qmp: the hypervisor and the guest behind narrow Protocols."""
