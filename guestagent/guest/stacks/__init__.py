"""Network stacks, which own the address configuration of NICs: one folder for each."""
