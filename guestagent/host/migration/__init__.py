"""The state machine of an operation on a VM: pure, no I/O."""
