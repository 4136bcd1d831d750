"""The host helper: what runs beside QEMU."""
