"""Real SR-IOV on any machine: a guest that is a host, with QEMU's igb as its card."""
