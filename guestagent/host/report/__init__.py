"""Output for operators and scripts."""
