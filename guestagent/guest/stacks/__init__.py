"""Who owns the address configuration of a NIC: one module per network stack."""
