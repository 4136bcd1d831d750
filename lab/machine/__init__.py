"""Guests in QEMU: their devices, their start, and commands in them."""
