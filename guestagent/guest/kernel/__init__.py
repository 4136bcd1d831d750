"""The kernel: rtnetlink, sysctl, sysfs, udev, packet sockets. The only importer of pyudev."""
