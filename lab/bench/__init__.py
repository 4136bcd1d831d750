"""The race: this agent beside everything else that pairs a virtio NIC and a VF."""
