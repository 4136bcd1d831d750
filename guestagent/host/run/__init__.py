"""Runs operations: effects on QEMU, VFs and the guest, one after the other."""
