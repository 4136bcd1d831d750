"""Status, history and metrics for operators."""
