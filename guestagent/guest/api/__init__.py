"""The agent's protocol over its Unix socket and its virtio-serial port."""
