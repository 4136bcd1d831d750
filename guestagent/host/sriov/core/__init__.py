"""VFs, leases and the choice of a VF: pure, no I/O."""
