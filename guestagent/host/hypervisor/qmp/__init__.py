"""QEMU over QMP."""
