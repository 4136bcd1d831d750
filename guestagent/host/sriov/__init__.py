"""SR-IOV on this host: VFs, leases on them, programming through the PF, and the standby's path."""
