"""The checkpoints of a run: writing and reading them, which ones are kept, and what tells that one is damaged."""
