"""ifupdown."""
