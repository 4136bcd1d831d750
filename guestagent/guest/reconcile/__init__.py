"""Observe, plan, apply, and observe again."""
