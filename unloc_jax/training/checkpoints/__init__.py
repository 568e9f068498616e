"""Checkpoints of a run: writing and reading them, keeping the best ones, and detecting damage."""
