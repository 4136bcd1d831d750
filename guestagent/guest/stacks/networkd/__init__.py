"""systemd-networkd, and netplan through it."""
