"""Observation, application of plans, and convergence."""
