"""Migrations by the host helper, and the losses of each phase."""
