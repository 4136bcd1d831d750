"""The agent in the guest, over virtio-serial or qemu-ga."""
