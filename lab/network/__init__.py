"""The wires between hosts and peer, in network namespaces."""
